/**
 * Programs for network tests, from Debian's packages: passt, and what it takes
 * to run it by one name.
 *
 * @module
 */

import { join } from "@std/path";
import type { TemporaryDirectory } from "../../support/temporary_directory.ts";
import type { RigOptions } from "./cache.ts";
import { RigError } from "./error.ts";
import {
  inSysroot,
  type Invocation,
  sysroot,
  type SysrootSpec,
} from "./packages.ts";

/** passt's package. */
export const PASST_PACKAGES: SysrootSpec = {
  name: "passt",
  suites: ["trixie", "trixie-backports"],
  packages: ["passt/trixie-backports"],
};

/**
 * How to run passt. On a processor with AVX2 it would look for its other build
 * beside itself, and find the loader: so that build is run at once.
 */
export async function findPasst(options: RigOptions = {}): Promise<Invocation> {
  const root = await sysroot(PASST_PACKAGES, options);
  const avx2 = / avx2 /.test(Deno.readTextFileSync("/proc/cpuinfo"));
  return inSysroot(root, avx2 ? "passt.avx2" : "passt");
}

/**
 * A script in `directory` that runs a program of a sysroot: for what takes one
 * path.
 *
 * @returns its path
 */
export function wrapper(
  directory: TemporaryDirectory,
  name: string,
  { command, args }: Invocation,
): string {
  const path = join(directory.path, name);
  const words = [command, ...args].map((word) => `'${word}'`).join(" ");
  Deno.writeTextFileSync(path, `#!/bin/sh\nexec ${words} "$@"\n`);
  Deno.chmodSync(path, 0o755);
  return path;
}

/** passt, or why there is none here. */
export async function passtOrReason(): Promise<
  { passt: Invocation | null; reason: string }
> {
  try {
    const progress = (line: string) => console.log(line);
    return { passt: await findPasst({ progress }), reason: "" };
  } catch (error) {
    if (error instanceof RigError && error.kind === "platform") {
      return { passt: null, reason: error.message };
    }
    throw error;
  }
}
