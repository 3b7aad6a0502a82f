@0x8d1c5e0f6a7b9324;
# The smallest possible call. The benchmark compares calls of GVM with it.

interface Adder {
  add @0 (a :Int32, b :Int32) -> (sum :Int32);
}
