/**
 * Fetches and builds what guests need, before tests are timed. As a program
 * it prepares everything.
 *
 * @module
 */

import type { Progress, RigOptions } from "./cache.ts";
import { cacheDirectory } from "./cache.ts";
import { RigError } from "./error.ts";
import { U_BOOT_PACKAGES } from "./firmware.ts";
import { guestImage } from "./guest_image.ts";
import { sysroot } from "./packages.ts";
import { findQemu } from "./qemu.ts";

/** A part of the rig that can be prepared. */
export type RigPart = "qemu" | "linux" | "u-boot";

/** All parts. */
export const RIG_PARTS: readonly RigPart[] = ["qemu", "linux", "u-boot"];

const PREPARE: Record<RigPart, (options: RigOptions) => Promise<unknown>> = {
  "qemu": findQemu,
  "linux": guestImage,
  "u-boot": (options) => sysroot(U_BOOT_PACKAGES, options),
};

/**
 * Fetches and builds `parts` unless the cache has them.
 *
 * @param progress called with a line for each step that takes time
 * @throws {RigError} `platform` when this system lacks something, `download`
 * when packages cannot be fetched, `locked`, `missing-file`
 */
export async function prepare(
  parts: readonly RigPart[] = RIG_PARTS,
  progress: Progress = () => {},
): Promise<void> {
  for (const part of parts) await PREPARE[part]({ progress });
}

/**
 * As `prepare`, for tests that are skipped where the system cannot run them.
 *
 * @returns `null` when all is ready, or what this system lacks, to be printed
 * @throws {RigError} for failures that are not the system's kind
 */
export async function prepareOrReason(
  parts: readonly RigPart[] = RIG_PARTS,
  progress: Progress = (line) => console.log(line),
): Promise<string | null> {
  try {
    await prepare(parts, progress);
    return null;
  } catch (error) {
    if (error instanceof RigError && error.kind === "platform") {
      return error.message;
    }
    throw error;
  }
}

if (import.meta.main) {
  try {
    await prepare(RIG_PARTS, (line) => console.log(line));
    const { version, origin } = await findQemu();
    console.log(`QEMU ${version} (${origin}), guests in ${cacheDirectory()}`);
  } catch (error) {
    if (!(error instanceof RigError)) throw error;
    console.error(error.message);
    Deno.exit(1);
  }
}
