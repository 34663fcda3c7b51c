/**
 * A process that does not survive its second input, for tests: its order says in
 * `target` how it ends.
 *
 * @module
 */

import { viewMemory } from "../../../sys/mapping.ts";
import { CurrentInput } from "./current_input.ts";

const { target, current } = JSON.parse(Deno.args[0]);
const inputs = new CurrentInput(current);
inputs.note(Uint8Array.of(1, 2, 3));
inputs.note(Uint8Array.of(4, 5));
switch (target) {
  case "SIGSEGV":
    // Nothing is mapped there.
    new Uint8Array(viewMemory(4096, 1))[0] = 1;
    break;
  case "hang":
    for (;;);
  case "throw":
    throw new Error("An error that nobody catches");
  default:
    Deno.exit(Number(target));
}
