// The functions that nodes can call. Their types are in wit/world.wit; names here are in camel case.

export function add(a, b) {
  console.log(`adding ${a} and ${b}`);
  return a + b;
}

export function shout(text) {
  return text.toUpperCase();
}
