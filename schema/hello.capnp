@0xe4d8b9a35f1c7720;
# The greeting that opens every connection. Nothing is told and nothing done before both sides
# have agreed on the protocol and the caller has said whom it expects.

# The protocol's number. A side refuses what lies outside its own range with VERSION_MISMATCH.
const protocol :UInt16 = 1;

struct Hello {
  protocol @0 :UInt16;
  version @1 :Text;                # of the program, for people
  home @2 :Data;                   # 16 bytes: the id of the home that speaks
  node @3 :NodeInfo;               # who speaks; null for gpmd and its commands
  expected @4 :NodeInfo;           # who should answer: id and incarnation; null for gpmd
}

struct NodeInfo {
  name @0 :Text;
  id @1 :Data;                     # 16 bytes, a UUID
  incarnation @2 :UInt64;          # of this process; a restarted node has another
  address @3 :Text;                # where to dial first: `unix:PATH`, `tcp:HOST:PORT`
  since @4 :Int64;                 # registered, milliseconds since 1970
  addresses @5 :List(Text);        # every place to dial, in the order to try them; null for `address` alone
}
