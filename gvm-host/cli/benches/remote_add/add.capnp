@0x8d1c5e0f6a7b9324;
# The barest call there is: what the product's own calls are measured against.

interface Adder {
  add @0 (a :Int32, b :Int32) -> (sum :Int32);
}
