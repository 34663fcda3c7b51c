/**
 * What must be there before anything is served.
 *
 * @module
 */

import { fromFileUrl } from "@std/path";
import { kernelVersion, requirePlatform } from "../sys/platform.ts";
import { HostError } from "./error.ts";

/** Oldest runtime: FFI, linked packages and Workers as they are used here. */
export const MINIMUM_DENO = "2.9";
/** Oldest kernel: the oldest one that its makers still maintain. */
export const MINIMUM_KERNEL = "5.10";

/**
 * Refuses platforms, kernels and runtimes on which this program is not known to
 * be right.
 *
 * @param deno version of the runtime
 * @param kernel release of the kernel
 * @throws {SystemError} on another platform than Linux on x86-64
 * @throws {HostError} of kind `start` when a version is too old
 *
 * @example Usage
 * ```ts
 * import { requireRuntime } from "./requirements.ts";
 * import { assertThrows } from "@std/assert";
 *
 * requireRuntime("2.9.6", "6.1.0-13-amd64");
 * assertThrows(() => requireRuntime("2.8.1", "6.1.0-13-amd64"));
 * ```
 */
export function requireRuntime(
  deno: string = Deno.version.deno,
  kernel?: string,
): void {
  requirePlatform();
  requireVersion("Deno", deno, MINIMUM_DENO);
  requireVersion("Linux", kernel ?? kernelVersion().release, MINIMUM_KERNEL);
}

/**
 * Refuses to serve in this process where the runtime may not load what serves: a
 * Worker would say so twice, and not what to do.
 *
 * @throws {HostError} of kind `start`
 */
export function requireModules(): void {
  const root = new URL("../", import.meta.url);
  if (root.protocol !== "file:") return;
  const path = fromFileUrl(root);
  const { state } = Deno.permissions.requestSync({ name: "read", path });
  if (state === "granted") return;
  throw new HostError(
    "start",
    `Cannot load devices from "${path}": the runtime may not read it; run it with --allow-read=${path}`,
  );
}

function requireVersion(what: string, found: string, minimum: string): void {
  const [major, minor] = numbersOf(found);
  const [leastMajor, leastMinor] = numbersOf(minimum);
  if (major > leastMajor || (major === leastMajor && minor >= leastMinor)) {
    return;
  }
  throw new HostError(
    "start",
    `Cannot run on ${what} ${found}: ${what} ${minimum} or later is needed`,
  );
}

function numbersOf(version: string): [number, number] {
  const [major = 0, minor = 0] = version.split(/[.-]/).map(Number);
  return [major, minor];
}
