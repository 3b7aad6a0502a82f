@0xb1f0c62a7d53e884;
# An error with its code and its outcome. `code` is a number of `gvm_host::error::Code`. Numbers never change. A reader
# treats a number that it does not know as INTERNAL.

struct Error {
  code @0 :UInt16;
  effect @1 :Effect;
  message @2 :Text;
  context @3 :Text;                # backtrace, signature, pointer lines; null if there is none
  hasExit @4 :Bool;
  exit @5 :Int32;                  # the guest's status, if hasExit
}

enum Effect {
  notStarted @0;
  ranAndFailed @1;
  unknown @2;
}
