@0xf29e40b7c8d1563a;
# Node to node. When two nodes connect, each side gets a session on the other. A running call is a promise, and dropping
# the promise cancels the call.

using Error = import "error.capnp".Error;
using Hello = import "hello.capnp".Hello;
using Value = import "value.capnp".Value;
using Type = import "value.capnp".Type;
using FuncType = import "value.capnp".FuncType;
using Number = import "value.capnp".Number;

# The first object at a node's address.
interface NodeDoor {
  # Each side shows its certificate (`Registration.certify`) and a nonce of 32 bytes. The side that answers signs at once,
  # the other side when it asks to connect. What they sign is in `gvm-host/src/trust/greeting.rs`.
  greet @0 (hello :Hello, reservedTicket :Data, certificate :Data, nonce :Data) -> NodeGreeting;
}

interface ConnectDoor {
  # The connecting side passes its own session and streams, and what that session may do. The answer depends on the
  # accept policy. It can take a minute if a person is asked. `signature` has 64 bytes.
  connect @0 (session :Session, streams :Streams, grant :Grant, signature :Data) -> Connected;
}

# What a session may do. Fields that are null or 0 do not restrict it. An empty list allows no calls.
struct Grant {
  calls @0 :List(Text);            # patterns of allowed targets, such as `math.*`
  expires @1 :Int64;               # milliseconds since 1970
}

interface Session {
  run @0 (call :Call) -> (outcome :Outcome);
  # Returns the signature of a function, or none for the main function of a module. `deadline` is as in `Call`.
  describe @1 (target :Target, deadline :UInt64) -> Described;
  ping @2 () -> ();
  # The last message of the side that leaves: `disconnected`, `shut down`, `revoked` or `expired`.
  goodbye @3 (reason :Text) -> ();
  # Creates a live instance of a module under a name that the caller chooses. It lives until it is dropped or this
  # session ends. `deadline` is as in `Call`. A caller that drops the promise also drops the instance, by its name,
  # because it may exist already.
  spawn @4 (name :Text, target :Target, limits :Limits, deadline :UInt64) -> Done;
  instances @5 () -> (instances :List(InstanceInfo));
  drop @6 (name :Text) -> Done;
  # Returns a ticket of 16 bytes for a channel: a connection that carries only calls of this session and their outcomes.
  # A ticket is valid once and for a short time.
  channel @7 () -> (ticket :Data);
}

# The streams of the calls that the owner has running on the other side, by call id.
interface Streams {
  # Answers when the chunk is consumed, so at most one chunk is unacknowledged. `broken` means that this stream accepts no
  # more data. The other stream continues.
  output @0 (call :Data, chunk :Chunk) -> (broken :Broken);
  # Waits for at least one byte. No bytes mean the end of the input, or the reason in `broken`.
  input @1 (call :Data, most :UInt32) -> (data :Data, broken :Broken);
  # Returns a ticket of 16 bytes for a bulk connection to the owner, which serves the owner's blobs. A ticket is valid
  # once and for a short time.
  bulk @2 () -> (ticket :Data);
}

# Bytes that the receiver can fetch over the bulk connection: those of arguments while their call runs, those of a result
# once, for a short time after its call.
struct Blob {
  id @0 :UInt64;                   # unique on its owner's side of this session
  bytes @1 :UInt64;
  element @2 :Number;              # the type of the packed, little-endian numbers; text is u8
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

# Why a stream accepts or delivers no more data.
enum Broken {
  no @0;                           # it works
  io @1;
  full @2;                         # the device is full
  pipe @3;                         # the reader has closed it
  isFolder @4;                     # the input is a folder
  closed @5;                       # it was closed before the program started
}

struct Target {
  union {
    module :group {
      name @0 :Text;
      version @1 :Text;            # null for the selected version
      sha256 @8 :Data;             # 32 bytes: what the caller's device has under this name; the node gets these bytes from
                                   # there if it lacks them. Null if the node's own device decides
    }
    bytes @2 :Data;                # a module that is sent along
    instance @3 :Text;             # the name of a live instance
    blob @6 :Blob;                 # a module that is sent over the bulk connection
    hash @7 :Data;                 # a module that the node has loaded, by the SHA-256 of its bytes
  }
  interface @4 :Text;              # null if the function is found without it
  function @5 :Text;               # null for the module's main function
}

struct Call {
  id @0 :Data;                     # 16 bytes, a UUID
  target @1 :Target;
  args :union {
    values @2 :List(Value);
    text @3 :Text;                 # WAVE; the node that runs the call parses it
    argv @4 :List(Text);           # of a module's main function
    large @12 :Large;              # values or text
  }
  limits @5 :Limits;
  deadline @6 :UInt64;             # remaining nanoseconds; 0 for none
  reservedParent @7 :Data;
  reservedDepth @8 :UInt32;
  hasInput @9 :Bool;               # whether standard input can be read through `Streams`
  wantType @10 :Bool;              # whether the caller needs the result's type
  above @11 :Data;                 # the calls above this one, 16 bytes each, outermost first
}

# Limits of a call. They narrow the limits of the node that runs it and never widen them. 0 does not narrow.
struct Limits {
  reservedTimeout @0 :UInt64;      # the time is sent as a deadline
  memory @1 :UInt64;               # bytes
  output @2 :UInt64;               # bytes
  fuel @3 :UInt64;
}

struct Outcome {
  union {
    none @0 :Void;                 # a function without result, or a main function that succeeded
    value @1 :Value;
    error @2 :Error;
    large @6 :Large;               # one value
  }
  type @3 :Type;                   # of the value, if wantType
  output @4 :List(Chunk);          # output that was not streamed yet
  nanoseconds @5 :UInt64;          # the duration of the call on the node that ran it; 0 if it was not measured
}

# Answers.

struct NodeGreeting {
  union {
    ok :group {
      hello @0 :Hello;
      door @1 :ConnectDoor;
      asks @3 :Bool;               # whether a person is asked
      certificate @4 :Data;
      nonce @5 :Data;
      signature @6 :Data;
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
  module @1 :Text;                 # the module that it is an instance of
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
