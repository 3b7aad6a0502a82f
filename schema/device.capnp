@0xa6f2d81c0b7e4935;
# What the gpmds of two devices send to each other. TLS has proven the keys of both devices before the first message.

using Error = import "error.capnp".Error;
using NodeInfo = import "hello.capnp".NodeInfo;
using Gpmd = import "gpmd.capnp";

# The first object of a connection from another device.
interface DeviceDoor {
  # Both devices belong to the same network. Afterwards each holds the other's `Device`. There is one such connection between
  # two devices; another one is refused with OVERLOADED while the first one is alive.
  meet @0 (hello :DeviceHello, device :Device) -> Met;
  # The caller has an invitation. It is the only request that a stranger can make, and only while an invitation is open.
  join @1 (application :Application) -> Admitted;
}

struct DeviceHello {
  protocol @0 :UInt16;             # that of `hello.capnp`
  version @1 :Text;                # of the program, for people
  network @2 :Data;                # 32 bytes: the key of the founder
}

struct Met {
  union {
    ok :group {
      hello @0 :DeviceHello;
      device @1 :Device;
    }
    error @2 :Error;
  }
}

# Each proof is an HMAC-SHA-256 whose key follows from the secret of the invitation. It covers the part of its side, a secret
# of the TLS connection, and the keys of both devices.
struct Application {
  protocol @0 :UInt16;
  invitation @1 :Data;             # its id, 8 bytes
  proof @2 :Data;                  # 32 bytes
  name @3 :Text;                   # that the device would like to have
}

struct Admitted {
  union {
    ok :group {
      proof @0 :Data;              # 32 bytes: the inviter knows the secret too
      network @1 :Data;            # 32 bytes: the key of the founder
      statements @2 :List(Data);   # the roster, each statement in JSON
    }
    error @3 :Error;
    # The key of the joiner was removed from the network. The invitation is not used: it is good for another key.
    removed @4 :Void;
  }
}

# What a device offers to another one of its network. What it tells replaces what it told before.
interface Device {
  ping @0 () -> ();
  # Statements of the roster, each in JSON. The answer means that they are stored.
  roster @1 (statements :List(Data)) -> ();
  # The nodes of the caller's device that are new or changed, and the names of those that are gone; with `all`, every node.
  # Names have no device. A guest is told only the nodes that accept nodes of its device.
  nodes @2 (all :Bool, here :List(NodeInfo), gone :List(Text)) -> ();
  # Addresses at which the caller's device can be dialled, `tcp:HOST:PORT`, best first, and perhaps `relay:` with the relay
  # where it is met, as a person gives it to `--relay`; and the revision of its index of
  # modules, 0 if the receiver may not read it.
  about @3 (addresses :List(Text), index :UInt64) -> ();
  reservedIndex @4 () -> Gpmd.Found;
  # The bytes of a stored module. Every device of the network that knows the hash may read it: hashes are told only to
  # members, and by calls.
  module @5 (sha256 :Data) -> Gpmd.Found;
  # The commands of this device. Only for members.
  control @6 () -> Gpmd.OtherControl;
  # Addresses that other devices have told the caller over connections that are up, so that devices find each other although
  # only one of them knows both. A hint where to dial, never proof of anything.
  others @7 (devices :List(Reachable)) -> ();
  # Messages of gossip, in large networks, in order. Only between members. The sender waits for the answer before it sends more;
  # the receiver answers late if too much comes, and ends the connection of a sender that does not wait.
  gossip @8 (messages :List(Data)) -> ();
  # The caller would end this connection, because it does not need it. With `busy`, the receiver does.
  release @9 () -> (busy :Bool);
  # The index of modules. Only for members. The caller knows its revision `since` from this history, or nothing.
  index @10 (history :UInt64, since :UInt64) -> IndexNews;
}

struct IndexNews {
  history @0 :UInt64;              # another one after each start of gpmd: a revision means nothing in another history
  union {
    all @1 :Gpmd.Found;            # the whole index, as its file has it
    change @2 :Gpmd.IndexChange;   # what has changed since the revision that the caller knows
  }
}

struct Reachable {
  device @0 :Data;                 # 32 bytes: its id
  addresses @1 :List(Text);        # as in `about`
}
