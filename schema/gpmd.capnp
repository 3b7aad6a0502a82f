@0xd3a97c15e08b6f42;
# The port mapper daemon: the registry of the device's nodes, and the store of its modules.
# Authority comes from the capabilities that a client holds: the first one only has `greet`.

using Error = import "error.capnp".Error;
using Hello = import "hello.capnp".Hello;
using NodeInfo = import "hello.capnp".NodeInfo;

# Bootstrap of the socket for nodes (port 5989).
interface RegistryDoor {
  greet @0 (hello :Hello) -> RegistryGreeting;
}

interface Registry {
  # The registration lasts until it, or the connection, is dropped. The answer has the node as registered. A
  # null name asks for a default name (`node-` and digits). `secret` has 16 bytes, which the node chose: the
  # same incarnation of the node needs it to register again while its earlier connection seems to be open.
  register @0 (node :NodeInfo, secret :Data) -> Registered;
  discover @1 () -> (nodes :List(NodeInfo));
  lookUp @2 (name :Text) -> LookedUp;
  # The subscriber gets the index before this answers, and every change of it before the change is
  # acknowledged to its author.
  subscribe @3 (subscriber :IndexSubscriber) -> (subscription :Subscription);
  # Tests whether the other side is alive.
  ping @4 () -> ();
}

# Dropping it unregisters.
interface Registration {
  # Returns a ticket. The node that is dialled gives it to gpmd, to learn that this node dials it. It has 16
  # bytes and is valid once, for a short time, for that incarnation of that node.
  introduce @0 (to :NodeInfo) -> (ticket :Data);
  # Returns the node that got this ticket to identify itself to this node.
  identify @1 (ticket :Data) -> LookedUp;
  # Answers when the registration has ended, although its connection has not.
  ended @2 () -> ();
}

# Dropping it ends the subscription.
interface Subscription {}

interface IndexSubscriber {
  # The index in the home (`ghost.modules.json`) now has this revision or a later one. The subscriber answers
  # after it has read the index. The file itself does not cross: it may be larger than a control message, and
  # subscribers also read it without gpmd.
  changed @0 (revision :UInt64) -> ();
  # gpmd is shutting down in order.
  goodbye @1 (reason :Text) -> ();
  # Tests whether the other side is alive. A node that is silent for some seconds is unregistered.
  ping @2 () -> ();
}

# Bootstrap of the socket for commands (port 1111).
interface ControlDoor {
  greet @0 (hello :Hello) -> ControlGreeting;
}

interface Control {
  status @0 () -> (status :Status);
  # Answers after nodes have been told and uploads have ended; the connection closes when gpmd has ended.
  shutDown @1 (reason :Text) -> ();
  # Announces a module; its bytes follow through the upload. A client that passes `alive` is disconnected if
  # it is silent for some seconds while it uploads.
  upload @2 (name :Text, version :Text, size :UInt64, alive :Alive) -> UploadBegun;
  # A null version removes every version of the name.
  remove @3 (name :Text, version :Text) -> Removed;
  # A null version removes the pin, so that the highest version is used.
  pin @4 (name :Text, version :Text) -> Pinned;
}

# A client that can be pinged.
interface Alive {
  ping @0 () -> ();
}

interface Upload {
  # Writes a piece of the module at an offset. `finish` reports errors.
  write @0 (offset :UInt64, data :Data) -> stream;
  # Answers when the module is durable and every subscriber has the new index. Dropping the upload before that
  # discards it.
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
  socket @8 :Text;                 # like `address`, for processes of the same home and device
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
      module @0 :Text;             # the version's entry, as in `ghost.modules.json`
      created @1 :Bool;            # false if the same content already existed
    }
    error @2 :Error;
  }
}
