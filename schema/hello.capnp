@0xe4d8b9a35f1c7720;
# The greeting that opens every connection. Nothing else is sent before both sides agree on the protocol and
# the caller has said which node it expects.

# The protocol's number. A side refuses any other number with VERSION_MISMATCH.
const protocol :UInt16 = 1;

struct Hello {
  protocol @0 :UInt16;
  version @1 :Text;                # of the program, for people
  home @2 :Data;                   # 16 bytes: the id of the home that speaks
  node @3 :NodeInfo;               # the node that speaks; null for gpmd and its commands
  expected @4 :NodeInfo;           # the node that should answer: id and incarnation; null for gpmd
}

struct NodeInfo {
  name @0 :Text;
  id @1 :Data;                     # 16 bytes, a UUID
  incarnation @2 :UInt64;          # of this process; a restarted node has another
  address @3 :Text;                # the address to dial first: `unix:PATH`, `tcp:HOST:PORT`
  since @4 :Int64;                 # when it was registered, milliseconds since 1970
  addresses @5 :List(Text);        # all addresses, in the order to try them; null if there is only `address`
}
