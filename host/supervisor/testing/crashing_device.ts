/**
 * A device that fails in the ways that it is told to.
 *
 * @module
 */

import { SystemError } from "../../../sys/errno.ts";
import { viewMemory } from "../../../sys/mapping.ts";
import { readTextFile } from "../../../sys/proc.ts";
import type { CreateDevice } from "../../../virtqueue/device.ts";

/** Ways to fail, and others not to, by the name of the command. */
const COMMANDS: Record<string, (params: unknown) => unknown> = {
  echo: (params) => params,
  print: () => {
    console.log("printed");
    console.error("complained");
  },
  refuse: () => {
    throw new SystemError(28, "write", "The medium is full");
  },
  throw: () => {
    setTimeout(() => {
      throw new Error("The medium caught fire");
    });
    return new Promise(() => {});
  },
  exhaust: () => {
    const kept: unknown[] = [];
    for (;;) kept.push(new Array(1000).fill(kept.length));
  },
  // Nothing is ever mapped so low.
  segfault: () => new Uint8Array(viewMemory(0x1000, 1))[0],
  hang: () => {
    for (;;);
  },
};

const create: CreateDevice = ({ refuse }, { waitsFor, keep }) => {
  waitsFor?.("the word");
  let asked = 0;
  const reason = typeof refuse === "string" ? contents(refuse) : "";
  if (reason !== "") throw new SystemError(5, "open", reason);
  return {
    deviceId: 4,
    features: 0n,
    queueCount: 1,
    maxSegments: 1,
    config: new Uint8Array(),
    serve: () => true,
    status: () => ({ asked: ++asked }),
    command(name, params) {
      if (name !== "keep") return COMMANDS[name](params);
      return new Promise((resolve) => keep!(params, () => resolve("kept")));
    },
  };
};

/** Why to refuse: what the file says, if there is one. A pipe is waited for. */
function contents(path: string): string {
  try {
    return readTextFile(path).trim();
  } catch {
    return "";
  }
}

export default create;
