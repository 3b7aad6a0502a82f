@0xf29e40b7c8d1563a;
# Node to node. When two nodes connect, each gets a session on the other. A running call is its promise:
# dropping the promise cancels the call.

using Error = import "error.capnp".Error;
using Hello = import "hello.capnp".Hello;
using Value = import "value.capnp".Value;
using Type = import "value.capnp".Type;
using FuncType = import "value.capnp".FuncType;
using Number = import "value.capnp".Number;

# Bootstrap of a node's address.
interface NodeDoor {
  # gpmd identifies the greeting node by the ticket (`Registration.introduce`); null while gpmd is away.
  greet @0 (hello :Hello, ticket :Data) -> NodeGreeting;
}

interface ConnectDoor {
  # The caller passes a session on itself, that session's rights, and its streams. The accept policy decides
  # the answer, which may take a minute if a person must decide.
  connect @0 (session :Session, streams :Streams, grant :Grant) -> Connected;
}

# The rights of a session. Fields that are null or 0 set no limit; an empty list allows no call.
struct Grant {
  calls @0 :List(Text);            # patterns of targets that may be called, `math.*`
  expires @1 :Int64;               # milliseconds since 1970
}

interface Session {
  run @0 (call :Call) -> (outcome :Outcome);
  # Returns the signature of a function; no signature for a module's main.
  describe @1 (target :Target) -> Described;
  ping @2 () -> ();
  # The other side is about to close the connection: `disconnected`, `shut down`, `revoked`, `expired`.
  goodbye @3 (reason :Text) -> ();
  # Creates a live instance of a module, with a name that the caller chose. It lives until it is dropped, or
  # until this session ends.
  spawn @4 (name :Text, target :Target, limits :Limits) -> Done;
  instances @5 () -> (instances :List(InstanceInfo));
  drop @6 (name :Text) -> Done;
}

# The streams of the calls that its owner runs on the other side, by call id.
interface Streams {
  # Answers when the chunk has been taken: at most one chunk is unacknowledged. `broken` says that this stream
  # takes no more; the other stream continues.
  output @0 (call :Data, chunk :Chunk) -> (broken :Broken);
  # Waits for at least one byte. No bytes mean the end, or the error in `broken`.
  input @1 (call :Data, most :UInt32) -> (data :Data, broken :Broken);
  # Returns a ticket for a bulk connection to its owner, over which the owner's blobs can be fetched. It has
  # 16 bytes and is valid once, for a short time.
  bulk @2 () -> (ticket :Data);
}

# Bytes that can be fetched over the bulk connection: arguments while their call runs, a result once, soon
# after its call.
struct Blob {
  id @0 :UInt64;                   # chosen by its owner, valid in this session
  bytes @1 :UInt64;
  element @2 :Number;              # what the bytes are: packed, little-endian; text is u8
}

# Values that are too large for the connection that the calls share.
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

# Why a stream is broken.
enum Broken {
  no @0;                           # it works
  io @1;
  full @2;                         # no room on the device
  pipe @3;                         # it has no reader
  isFolder @4;                     # the input is a folder
  closed @5;                       # it was closed before the program began
}

struct Target {
  union {
    module :group {
      name @0 :Text;
      version @1 :Text;            # null for the pinned or highest version
    }
    bytes @2 :Data;                # a module that comes with the call
    instance @3 :Text;             # a live instance by its name
    blob @6 :Blob;                 # a module that comes over the bulk connection
    # Reserved: a hash, when modules are exchanged between devices.
  }
  interface @4 :Text;              # null if the function's name is enough
  function @5 :Text;               # null for the module's main
}

struct Call {
  id @0 :Data;                     # 16 bytes, a UUID
  target @1 :Target;
  args :union {
    values @2 :List(Value);
    text @3 :Text;                 # WAVE, parsed with the signature where the call runs
    argv @4 :List(Text);           # for a module's main
    large @12 :Large;              # values or text
  }
  limits @5 :Limits;
  deadline @6 :UInt64;             # nanoseconds that remain; 0 for none
  parent @7 :Data;                 # the call that made this one; null for none
  depth @8 :UInt32;
  hasInput @9 :Bool;               # whether standard input can be read through `Streams`
  wantType @10 :Bool;              # whether the caller needs the result's type
  above @11 :Data;                 # the calls above this one, 16 bytes each, outermost first
}

# They can only narrow the limits of the node that runs the call; 0 sets no limit.
struct Limits {
  timeout @0 :UInt64;              # nanoseconds
  memory @1 :UInt64;               # bytes
  output @2 :UInt64;               # bytes
  fuel @3 :UInt64;
}

struct Outcome {
  union {
    none @0 :Void;                 # a function without result, or a main that succeeded
    value @1 :Value;
    error @2 :Error;
    large @6 :Large;               # one value
  }
  type @3 :Type;                   # of the value, if wanted
  output @4 :List(Chunk);          # output that was not streamed yet
  nanoseconds @5 :UInt64;          # how long the call took where it ran
}

# Answers.

struct NodeGreeting {
  union {
    ok :group {
      hello @0 :Hello;
      door @1 :ConnectDoor;
      asks @3 :Bool;               # whether a person must decide
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
  module @1 :Text;                 # the module that it was created from
}

struct Described {
  union {
    ok :group {
      hash @0 :Data;
      type @1 :FuncType;
      name @2 :Text;
    }
    error @3 :Error;
  }
}
