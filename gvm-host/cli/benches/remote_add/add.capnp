@0x8d1c5e0f6a7b9324;
# The simplest possible call, as the baseline for the calls of GVM.

interface Adder {
  add @0 (a :Int32, b :Int32) -> (sum :Int32);
}
