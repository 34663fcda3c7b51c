/**
 * What the rest of this folder stands on: Linux on x86-64.
 *
 * @module
 */

import { check, Errno, SystemError } from "./errno.ts";
import { libc } from "./libc.ts";

/** The platform of a process, as `Deno.build` gives it. */
export interface Platform {
  /** Operating system, `"linux"` is right. */
  os: string;
  /** Processor, `"x86_64"` is right. */
  arch: string;
}

/**
 * Refuses every platform but Linux on x86-64: structure layouts, system call
 * numbers and the memory ordering of the rings are those of that platform.
 *
 * @param platform the platform to judge; this process's if left out
 * @throws {SystemError} kind `EOPNOTSUPP`
 */
export function requirePlatform(platform: Platform = Deno.build): void {
  if (platform.os === "linux" && platform.arch === "x86_64") return;
  throw new SystemError(
    Errno.EOPNOTSUPP,
    "requirePlatform",
    `Cannot run on ${platform.os} ${platform.arch}: ` +
      "only linux x86_64 is supported",
  );
}

/** The release of the running kernel. */
export interface KernelVersion {
  /** As `uname -r` prints it. */
  release: string;
  /** First number of the release. */
  major: number;
  /** Second number of the release. */
  minor: number;
}

/** struct utsname: six fields of 65 bytes. */
const UTS_FIELD = 65;

/**
 * The release of the running kernel.
 *
 * C: `int uname(struct utsname *buf);`
 */
export function kernelVersion(): KernelVersion {
  const buffer = new Uint8Array(6 * UTS_FIELD);
  check(libc().uname(buffer), "uname");
  const field = buffer.subarray(2 * UTS_FIELD, 3 * UTS_FIELD);
  const release = new TextDecoder().decode(field.subarray(0, field.indexOf(0)));
  const numbers = /^(\d+)\.(\d+)/.exec(release);
  return {
    release,
    major: Number(numbers?.[1] ?? 0),
    minor: Number(numbers?.[2] ?? 0),
  };
}
