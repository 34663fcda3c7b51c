/**
 * Programs for network tests, from Debian's packages: passt, and what it takes
 * to run it by one name; a DHCP server.
 *
 * @module
 */

import { join } from "@std/path";
import { ChildProcess } from "../../support/process.ts";
import type { TemporaryDirectory } from "../../support/temporary_directory.ts";
import type { RigOptions } from "./cache.ts";
import { RigError } from "./error.ts";
import { TOOL_PACKAGES } from "./guest_image.ts";
import {
  findInSysroot,
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

/** Wireshark's reader of capture files. */
export const TSHARK_PACKAGES: SysrootSpec = {
  name: "tshark",
  suites: ["trixie"],
  packages: ["tshark"],
};

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

/** A program of `find`, or why there is none here. */
async function orReason(
  find: (options: RigOptions) => Promise<Invocation>,
): Promise<{ program: Invocation | null; reason: string }> {
  try {
    const progress = (line: string) => console.log(line);
    return { program: await find({ progress }), reason: "" };
  } catch (error) {
    if (error instanceof RigError && error.kind === "platform") {
      return { program: null, reason: error.message };
    }
    throw error;
  }
}

/** passt, or why there is none here. */
export async function passtOrReason(): Promise<
  { passt: Invocation | null; reason: string }
> {
  const { program, reason } = await orReason(findPasst);
  return { passt: program, reason };
}

/** tshark, or why there is none here. */
export function tsharkOrReason(): Promise<
  { program: Invocation | null; reason: string }
> {
  return orReason(async (options) =>
    inSysroot(await sysroot(TSHARK_PACKAGES, options), "tshark")
  );
}

/** What a DHCP server gives to who asks on an interface. */
export interface DhcpLeases {
  /** The interface, which is up. */
  readonly interface: string;
  /** Its address, the router of who asks. */
  readonly router: string;
  /** The only address that is given away, of the same 24 bits. */
  readonly address: string;
}

/**
 * Starts busybox's udhcpd, which says each answer on stderr.
 *
 * @param directory for its configuration and its leases
 */
export async function startDhcpServer(
  directory: TemporaryDirectory,
  leases: DhcpLeases,
): Promise<ChildProcess> {
  const configuration = directory.file("udhcpd.conf");
  const leaseFile = directory.file("udhcpd.leases");
  Deno.writeTextFileSync(leaseFile, "");
  const lines = [
    `interface ${leases.interface}`,
    `start ${leases.address}`,
    `end ${leases.address}`,
    `lease_file ${leaseFile}`,
    `pidfile ${directory.file("udhcpd.pid")}`,
    "option subnet 255.255.255.0",
    `option router ${leases.router}`,
  ];
  Deno.writeTextFileSync(configuration, lines.join("\n") + "\n");
  const busybox = findInSysroot(await sysroot(TOOL_PACKAGES), "busybox");
  const server = ChildProcess.start(busybox, {
    name: "udhcpd",
    args: ["udhcpd", "-f", configuration],
  });
  try {
    await server.expect("started");
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}
