@0xd3a97c15e08b6f42;
# The port mapper daemon: the registry of the device's nodes and the keeper of its modules.
# Authority is what you hold: the door gives nothing but `greet`.

using Error = import "error.capnp".Error;
using Hello = import "hello.capnp".Hello;
using NodeInfo = import "hello.capnp".NodeInfo;

# Bootstrap of the socket for nodes (port 5989).
interface RegistryDoor {
  greet @0 (hello :Hello) -> RegistryGreeting;
}

interface Registry {
  # The registration lives until it, or the connection, is dropped. The answer carries the name and
  # id as they now stand. A name of none asks for a default one (`node-` and digits). `secret` is the
  # node's own, 16 bytes: with it, and not without, the same life of the node registers again while its
  # earlier connection seems to live.
  register @0 (node :NodeInfo, secret :Data) -> Registered;
  discover @1 () -> (nodes :List(NodeInfo));
  lookUp @2 (name :Text) -> LookedUp;
  # The subscriber has the index before this answers, and again before any change is acknowledged
  # to whoever made it.
  subscribe @3 (subscriber :IndexSubscriber) -> (subscription :Subscription);
  # A sign of life.
  ping @4 () -> ();
}

# Dropping it unregisters.
interface Registration {
  # A ticket by which another node learns from gpmd that it is this one that dials it: 16 bytes, good once,
  # soon, and for that life of that node.
  introduce @0 (to :NodeInfo) -> (ticket :Data);
  # Which node was given this ticket, to introduce itself to this one.
  identify @1 (ticket :Data) -> LookedUp;
  # Answers when the registration has ended though its connection has not.
  ended @2 () -> ();
}

# Dropping it ends the subscription.
interface Subscription {}

interface IndexSubscriber {
  # The index in the home (`ghost.modules.json`) now stands at this revision or a later one; the
  # answer says that the subscriber has read it. The file itself does not cross: it may be larger
  # than a control message, and subscribers read it without gpmd too.
  changed @0 (revision :UInt64) -> ();
  # gpmd is about to leave in order.
  goodbye @1 (reason :Text) -> ();
  # A sign of life. Who gives none for some seconds is no longer registered.
  ping @2 () -> ();
}

# Bootstrap of the socket for commands (port 1111).
interface ControlDoor {
  greet @0 (hello :Hello) -> ControlGreeting;
}

interface Control {
  status @0 () -> (status :Status);
  # Answers once nodes are told and uploads have ended; the connection closes when gpmd is gone.
  shutDown @1 (reason :Text) -> ();
  # Announces a module; its bytes follow through the upload. A client that gives `alive` and no sign of
  # life for some seconds while it uploads is cut off.
  upload @2 (name :Text, version :Text, size :UInt64, alive :Alive) -> UploadBegun;
  # Version null: every version of the name.
  remove @3 (name :Text, version :Text) -> Removed;
  # Version null: back to the highest.
  pin @4 (name :Text, version :Text) -> Pinned;
}

# Of a client that can be asked for a sign of life.
interface Alive {
  ping @0 () -> ();
}

interface Upload {
  # A piece of the module and where it belongs. What goes wrong is told by `finish`.
  write @0 (offset :UInt64, data :Data) -> stream;
  # Answers once the module is durable and every subscriber has the new index. Dropping the upload
  # before that leaves nothing behind.
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
  socket @8 :Text;                 # as `address`, for who shares the home and the device
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
      module @0 :Text;             # the version's entry as `ghost.modules.json` holds it
      created @1 :Bool;            # false where the same bytes stood there already
    }
    error @2 :Error;
  }
}
