@0xf29e40b7c8d1563a;
# Node to node. Connecting gives each side a session of the other; a running call is its promise:
# dropping the promise cancels the call.

using Error = import "error.capnp".Error;
using Hello = import "hello.capnp".Hello;
using Value = import "value.capnp".Value;
using Type = import "value.capnp".Type;
using FuncType = import "value.capnp".FuncType;
using Number = import "value.capnp".Number;

# Bootstrap of a node's address.
interface NodeDoor {
  # The ticket is gpmd's word for who greets (`Registration.introduce`); null where gpmd is away.
  greet @0 (hello :Hello, ticket :Data) -> NodeGreeting;
}

interface ConnectDoor {
  # The asking side brings its own session and streams, and what that session may do; the answer
  # follows the accept policy, and may take a minute where a person is asked.
  connect @0 (session :Session, streams :Streams, grant :Grant) -> Connected;
}

# What a session may do. Fields that are null or 0 do not narrow; an empty list allows no call.
struct Grant {
  calls @0 :List(Text);            # patterns of targets that may be called, `math.*`
  expires @1 :Int64;               # milliseconds since 1970
}

interface Session {
  run @0 (call :Call) -> (outcome :Outcome);
  # The signature of a function, or of none for a module's main. `deadline` as in `Call`.
  describe @1 (target :Target, deadline :UInt64) -> Described;
  ping @2 () -> ();
  # The last word of the side that leaves: `disconnected`, `shut down`, `revoked`,
  # `expired`.
  goodbye @3 (reason :Text) -> ();
  # Brings a module to life under a name that the caller chose. It lives until it is dropped, or with
  # this session. `deadline` as in `Call`. Whoever drops the promise drops the instance too, by its name: it
  # may be there already.
  spawn @4 (name :Text, target :Target, limits :Limits, deadline :UInt64) -> Done;
  instances @5 () -> (instances :List(InstanceInfo));
  drop @6 (name :Text) -> Done;
}

# Streams of the calls that its owner has running on the other side, keyed by call id.
interface Streams {
  # Acknowledged once taken: what is not acknowledged is at most one chunk. `broken` says that this stream
  # takes no more; the other one goes on.
  output @0 (call :Data, chunk :Chunk) -> (broken :Broken);
  # Waits for at least one byte; no bytes mean the end, or what `broken` says.
  input @1 (call :Data, most :UInt32) -> (data :Data, broken :Broken);
  # A ticket for a bulk connection to its owner, over which the owner's blobs can be fetched: 16 bytes,
  # good once and soon.
  bulk @2 () -> (ticket :Data);
}

# Bytes that can be fetched over the bulk connection: of arguments while their call runs, of a result
# once, soon after its call.
struct Blob {
  id @0 :UInt64;                   # of its owner's side of this session
  bytes @1 :UInt64;
  element @2 :Number;              # what the bytes are: packed, little-endian; text is u8
}

# Values too large for the connection that the calls share.
struct Large {
  shape :union {                   # a message whose root is a `Shape`
    inline @0 :Data;
    blob @1 :Blob;
  }
  parts @2 :List(Blob);
}

struct Chunk {
  stream @0 :Stream;
  data @1 :Data;
}

enum Stream {
  stdout @0;
  stderr @1;
}

# Why a stream takes or gives no more.
enum Broken {
  no @0;                           # it works
  io @1;
  full @2;                         # no room on the device
  pipe @3;                         # nobody reads it any more
  isFolder @4;                     # what is read is a folder
  closed @5;                       # it was closed before the program began
}

struct Target {
  union {
    module :group {
      name @0 :Text;
      version @1 :Text;            # null for the chosen one
    }
    bytes @2 :Data;                # a module that comes along
    instance @3 :Text;             # a live instance by its name
    blob @6 :Blob;                 # a module that comes along over the bulk connection
    # Room: hash, once modules are exchanged between devices.
  }
  interface @4 :Text;              # null where the function is found without
  function @5 :Text;               # null for the module's main
}

struct Call {
  id @0 :Data;                     # 16 bytes, a UUID
  target @1 :Target;
  args :union {
    values @2 :List(Value);
    text @3 :Text;                 # WAVE, read against the signature where the call runs
    argv @4 :List(Text);           # of a module's main
    large @12 :Large;              # values or text
  }
  limits @5 :Limits;
  deadline @6 :UInt64;             # nanoseconds that remain; 0 for none
  reservedParent @7 :Data;
  reservedDepth @8 :UInt32;
  hasInput @9 :Bool;               # whether standard input can be read through `Streams`
  wantType @10 :Bool;              # whether the caller needs the result's type
  above @11 :Data;                 # the calls above this one, 16 bytes each, outermost first
}

# They narrow the limits of the node that runs the call and never widen them; 0 does not narrow.
struct Limits {
  reservedTimeout @0 :UInt64;      # the time crosses as a deadline beside them
  memory @1 :UInt64;               # bytes
  output @2 :UInt64;               # bytes
  fuel @3 :UInt64;
}

struct Outcome {
  union {
    none @0 :Void;                 # a function without result, or a main that ended well
    value @1 :Value;
    error @2 :Error;
    large @6 :Large;               # one value
  }
  type @3 :Type;                   # of the value, where wanted
  output @4 :List(Chunk);          # what was written and not streamed yet
  nanoseconds @5 :UInt64;          # that the call took where it ran
}

# Answers.

struct NodeGreeting {
  union {
    ok :group {
      hello @0 :Hello;
      door @1 :ConnectDoor;
      asks @3 :Bool;               # whether a person will be asked
    }
    error @2 :Error;
  }
}

struct Connected {
  union {
    ok :group {
      session @0 :Session;
      streams @1 :Streams;
      grant @2 :Grant;
    }
    error @3 :Error;
  }
}

struct Done {
  union {
    ok @0 :Void;
    error @1 :Error;
  }
}

struct InstanceInfo {
  name @0 :Text;
  module @1 :Text;                 # what it was made from
}

struct Described {
  union {
    ok :group {
      hash @0 :Data;
      type @1 :FuncType;
      reservedName @2 :Text;
    }
    error @3 :Error;
  }
}
