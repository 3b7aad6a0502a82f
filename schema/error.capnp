@0xb1f0c62a7d53e884;
# A coded error with its outcome class. `code` is a number of `gvm_host::error::Code`:
# never renumbered; a number that a reader does not know is INTERNAL to it.

struct Error {
  code @0 :UInt16;
  effect @1 :Effect;
  message @2 :Text;
  context @3 :Text;                # backtrace, signature, pointer lines; null where none
  hasExit @4 :Bool;
  exit @5 :Int32;                  # the guest's status, where hasExit
}

enum Effect {
  notStarted @0;
  ranAndFailed @1;
  unknown @2;
}
