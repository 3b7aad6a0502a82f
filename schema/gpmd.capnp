@0xd3a97c15e08b6f42;
# The port mapper daemon: the registry of the device's nodes, and the store of its modules.
# The object that a client holds is its authority. The first object of a connection offers only `greet`.

using Error = import "error.capnp".Error;
using Hello = import "hello.capnp".Hello;
using NodeInfo = import "hello.capnp".NodeInfo;

# The first object on the socket for nodes (port 5989).
interface RegistryDoor {
  greet @0 (hello :Hello) -> RegistryGreeting;
}

interface Registry {
  # The registration lasts until it, or the connection, is dropped. The answer has the registered name and id. A node
  # without a name gets a default one (`node-` and digits). `secret` is 16 bytes that only the node knows. With the
  # secret, and only with it, the same incarnation can register again while its earlier connection seems to be alive.
  # `accepts` has the names in the node's accept policy: guests of the network see only nodes that name them.
  register @0 (node :NodeInfo, secret :Data, accepts :List(Text)) -> Registered;
  # The nodes of this device, and those of all devices of the network that are up: those after a place in that order, 0 at first.
  # If there are more, `next` is the place where the next answer begins; 0 if not.
  discover @1 (begin :UInt32) -> (nodes :List(NodeInfo), next :UInt32);
  # `NAME` or `NAME@DEVICE`.
  lookUp @2 (name :Text) -> LookedUp;
  # The subscriber gets the index before this answers. Later it gets each change before the change is acknowledged to
  # the client that made it.
  subscribe @3 (subscriber :IndexSubscriber) -> (subscription :Subscription);
  # Shows that the sender is alive.
  ping @4 () -> ();
  # Finds a module that this device does not have: what another member of the network has under the name. A null version
  # lets that device choose.
  findModule @5 (name :Text, version :Text) -> FoundModule;
  # Gets the bytes of a module into the home (`fetched/<sha256>.wasm`), from the device with this id, or from any member that
  # has them. The answer means that they are there, with the right hash.
  fetchModule @6 (sha256 :Data, device :Data) -> FetchedModule;
  # The modules of the other members that are up: of each name the version that its device chooses. Sorted by name and device.
  otherModules @7 () -> (modules :List(OtherModule));
}

# Dropping it ends the registration.
interface Registration {
  reservedIntroduce @0 () -> ();
  reservedIdentify @1 () -> ();
  # Answers when the registration has ended while its connection is still open.
  ended @2 () -> ();
  # Certifies that the owner of this Ed25519 key (32 bytes) is the registered node. The certificate (X.509, in DER) holds for
  # a day; a node gets another one before.
  certify @3 (key :Data) -> Certified;
}

# Dropping it ends the subscription.
interface Subscription {}

interface IndexSubscriber {
  # The index in the home (`ghost.modules.json`) now has this revision or a later one. The answer means that the
  # subscriber has it. A subscriber with the revision `change.base` applies the change; any other one reads the file, which is
  # not sent, because it can be larger than a control message, and subscribers also read it without gpmd.
  changed @0 (revision :UInt64, change :IndexChange) -> ();
  # gpmd is about to stop.
  goodbye @1 (reason :Text) -> ();
  # Asks for a sign of life. gpmd removes the registration of a node that does not answer for some seconds.
  ping @2 () -> ();
  # The roster in the home (`ghost.network.json`) or the key of the device has changed. The answer means that the subscriber
  # has read the roster, and has ended the sessions with devices that are not in it.
  devices @3 () -> ();
}

# What happened to the module with this name. Null if more has changed, or the module has too many versions for a message.
struct IndexChange {
  base @0 :UInt64;
  gone @1 :List(Text);             # names that were removed
  index @2 :Text;                  # in the format of the file, with the other names that have changed and no more
}

# The first object on the socket for commands (port 1111).
interface ControlDoor {
  greet @0 (hello :Hello) -> ControlGreeting;
}

interface Control {
  status @0 () -> (status :Status);
  # Answers when nodes are told and uploads have ended. The connection closes when gpmd has stopped.
  shutDown @1 (reason :Text) -> ();
  # Announces a module. Its bytes follow through the upload. If the client passes `alive` and does not answer its pings
  # for some seconds during the upload, gpmd closes the connection.
  upload @2 (name :Text, version :Text, size :UInt64, alive :Alive) -> UploadBegun;
  # A null version removes all versions of the name.
  remove @3 (name :Text, version :Text) -> Removed;
  # A null version selects the highest one again.
  pin @4 (name :Text, version :Text) -> Pinned;
  # Creates an invitation for one device. From then on gpmd listens for other devices. `expires` is in milliseconds from
  # now. A null name lets the invited device choose.
  invite @5 (expires :UInt64, guest :Bool, name :Text) -> Invited;
  # The open invitations.
  invitations @6 () -> (invitations :List(Invitation));
  # A unique beginning of an id is enough.
  revoke @7 (invitation :Text) -> Done;
  # Joins the network of the device that made the line.
  join @8 (line :Text) -> Joined;
  devices @9 () -> (network :NetworkStatus);
  # Removes another device from the network, by name or by id.
  removeDevice @10 (device :Text) -> Done;
  # Leaves the network. This device gets a new key and a network of its own. The answer has the names of the devices that
  # were told.
  leave @11 () -> Left;
  # The commands of another device. Only members have them, and only those up to `pin`, `index` and `module`.
  on @12 (device :Text) -> OtherControl;
  # The index of modules, as its file has it.
  index @13 () -> Found;
  # The bytes of a stored module.
  module @14 (sha256 :Data) -> Found;
}

# Bytes that are read piece by piece.
interface Bytes {
  # Fewer bytes than `length` mean the end, or the limit of 256 KiB per piece.
  read @0 (offset :UInt64, length :UInt32) -> (data :Data);
}

# A client that gpmd can ask for a sign of life.
interface Alive {
  ping @0 () -> ();
}

interface Upload {
  # Sends a piece of the module and its place. `finish` reports errors.
  write @0 (offset :UInt64, data :Data) -> stream;
  # Answers when the module is durable and every subscriber has the new index. Dropping the upload before that discards
  # the module.
  finish @1 () -> Uploaded;
}

struct Status {
  pid @0 :UInt32;
  version @1 :Text;
  home @2 :Text;
  address @3 :Text;
  commandAddress @4 :Text;
  nodes @5 :List(NodeInfo);
  modules @6 :UInt32;
  since @7 :Int64;
  socket @8 :Text;                 # like `address`, for processes on the same device and home
  commandSocket @9 :Text;
}

# Answers.

struct RegistryGreeting {
  union {
    ok :group {
      hello @0 :Hello;
      registry @1 :Registry;
    }
    error @2 :Error;
  }
}

struct Registered {
  union {
    ok :group {
      node @0 :NodeInfo;
      registration @1 :Registration;
    }
    error @2 :Error;
  }
}

struct Certified {
  union {
    ok :group {
      certificate @0 :Data;
      device @1 :Data;             # the Ed25519 key of the device that signed it, 32 bytes
    }
    error @2 :Error;
  }
}

struct LookedUp {
  union {
    node @0 :NodeInfo;
    error @1 :Error;
  }
}

struct ControlGreeting {
  union {
    ok :group {
      hello @0 :Hello;
      control @1 :Control;
    }
    error @2 :Error;
  }
}

struct FoundModule {
  union {
    sha256 @0 :Data;               # 32 bytes; null if no member that is known has the module
    error @1 :Error;
  }
}

struct OtherModule {
  device @0 :Text;
  name @1 :Text;
  version @2 :Text;
  entry @3 :ModuleEntry;
}

struct FetchedModule {
  union {
    ok @0 :Void;
    error @1 :Error;
  }
}

# One stored version of a module.
struct ModuleEntry {
  sha256 @0 :Data;                 # 32 bytes
  size @1 :UInt64;                 # in bytes
  kind @2 :ModuleKind;
  main @3 :Bool;                   # whether it can be run by itself
  exports @4 :List(Text);          # functions as WIT writes them
  types @5 :List(NamedType);       # the names that the module gives to types
  uploaded @6 :Text;               # when it was stored, RFC 3339, UTC
}

enum ModuleKind {
  core @0;
  component @1;
}

struct NamedType {
  name @0 :Text;
  type @1 :Text;                   # the type as WIT writes it
}

struct UploadBegun {
  union {
    upload @0 :Upload;
    error @1 :Error;
  }
}

struct Removed {
  union {
    removed @0 :List(Text);
    error @1 :Error;
  }
}

struct Pinned {
  union {
    ok @0 :Void;
    error @1 :Error;
  }
}

struct Uploaded {
  union {
    ok :group {
      reservedModule @0 :Text;
      created @1 :Bool;            # false if the same bytes were stored already
      entry @3 :ModuleEntry;       # the version as gpmd stored it
    }
    error @2 :Error;
  }
}

struct Found {
  union {
    ok :group {
      size @0 :UInt64;
      bytes @1 :Bytes;
    }
    error @2 :Error;
  }
}

struct Done {
  union {
    name @0 :Text;                 # what the request named, in full
    error @1 :Error;
  }
}

struct Invitation {
  id @0 :Text;
  guest @1 :Bool;
  name @2 :Text;                   # of the device that will join; null if it chooses
  expires @3 :Int64;               # milliseconds since 1970
}

struct Invited {
  union {
    ok :group {
      line @0 :Text;
      invitation @1 :Invitation;
      listens @2 :Text;            # where other devices reach this one: `port 5989 (all interfaces)`
    }
    error @3 :Error;
  }
}

struct Joined {
  union {
    ok :group {
      inviter @0 :Text;            # its name
      name @1 :Text;               # of this device in the network
      devices @2 :UInt32;          # in the network, this one included
    }
    error @3 :Error;
  }
}

struct Left {
  union {
    told @0 :List(Text);
    error @1 :Error;
  }
}

struct OtherControl {
  union {
    control @0 :Control;
    error @1 :Error;
  }
}

struct NetworkStatus {
  network @0 :Data;                # 32 bytes: the id of the founder's device
  removed @1 :Bool;                # this device was removed from the network
  devices @2 :List(DeviceStatus);  # sorted by name; this one included, unless it was removed
}

struct DeviceStatus {
  name @0 :Text;
  id @1 :Data;                     # 32 bytes
  own @2 :Bool;                    # whether it is this device
  guest @3 :Bool;
  up @4 :Bool;
  since @5 :Int64;                 # when it came up or went down, milliseconds since 1970
  address @6 :Text;                # in use; null if it is not connected
  transport @7 :Text;              # `tcp`, `iroh` or `relayed`; null if it is not connected
  roundTrip @8 :UInt64;            # in microseconds; 0 if it is not known
  nodes @9 :UInt32;
  version @10 :Text;               # of its gpmd
  addresses @11 :List(Text);       # where it can be dialled, as far as this device knows
  problem @12 :Text;               # why it cannot be reached; null if there is none
  admittedBy @13 :Text;            # a name, or an id if that device is no longer in the network
  admitted @14 :Int64;             # milliseconds since 1970
  modules @15 :UInt32;             # counted by name
  # Where packets in tunnels to it go: `udp:HOST:PORT`, or the URL of a relay; null if no tunnel is open.
  tunnel @17 :Text;
  relay @16 :Text;                 # where it is met if it cannot be dialled; null if that is not known
}
