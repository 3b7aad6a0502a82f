@0xe4d8b9a35f1c7720;
# The greeting that opens every connection. Nothing else is sent before both sides agree on the protocol and the caller
# names the node that it expects.

# The number of the protocol. A side refuses another number with VERSION_MISMATCH. 1 was the number of 0.1.0, whose
# nodes have no certificates.
const protocol :UInt16 = 2;

struct Hello {
  protocol @0 :UInt16;
  version @1 :Text;                # of the program, for people
  home @2 :Data;                   # 16 bytes: the id of the sender's home
  node @3 :NodeInfo;               # the sender; null for gpmd and its commands
  expected @4 :NodeInfo;           # the expected receiver: id and incarnation; null for gpmd
}

struct NodeInfo {
  name @0 :Text;                   # `NAME`; in gpmd's answers about other devices `NAME@DEVICE`
  id @1 :Data;                     # 16 bytes, a UUID
  incarnation @2 :UInt64;          # differs when the node is restarted
  address @3 :Text;                # the first address to try: `unix:PATH`, `tcp:HOST:PORT`
  since @4 :Int64;                 # time of registration, milliseconds since 1970
  addresses @5 :List(Text);        # all addresses, in the order to try them; null if `address` is the only one
  device @6 :Data;                 # 32 bytes: the id of its device; null for the device of the sender
}
