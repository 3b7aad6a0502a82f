// The functions of the world in wit/world.wit, in camel case. A node can call them.

export function add(a, b) {
  console.log(`adding ${a} and ${b}`);
  return a + b;
}

export function shout(text) {
  return text.toUpperCase();
}
