/**
 * libblkio as a peer: a front-end and a virtio-blk driver that share no code
 * with ours, nor with QEMU's devices, without a guest. QEMU's block layer
 * brings it to `qemu-io` and `qemu-img`.
 *
 * Theory of operation: QEMU loads a module only if it is of the same build. A
 * private QEMU therefore gets the module of its very version, and of all that
 * the module's package depends on only libblkio: the other libraries belong to
 * modules that are never loaded. libblkio is loaded before the program, for
 * the loader searches the directories of QEMU's sysroot alone. A QEMU of the
 * system has the module, or has not.
 *
 * @module
 */

import { join } from "@std/path";
import { Console, ConsoleError } from "../../support/console.ts";
import {
  ChildProcess,
  type CommandResult,
  ProcessError,
  runCommand,
  type RunOptions,
} from "../../support/process.ts";
import type { RigOptions } from "./cache.ts";
import { RigError } from "./error.ts";
import {
  findFile,
  type Invocation,
  sysroot,
  type SysrootSpec,
} from "./packages.ts";
import { findQemu, QEMU_PACKAGES, type QemuInstallation } from "./qemu.ts";

const MODULES = "usr/lib/x86_64-linux-gnu/qemu";

/** A QEMU that can use libblkio. */
export interface Blkio {
  /** QEMU's version, `11.1.3` say. */
  readonly version: string;
  /** How to run `qemu-io` or `qemu-img` with it. */
  program(name: "qemu-io" | "qemu-img"): Invocation;
}

/**
 * QEMU with its module for libblkio, fetched if need be.
 *
 * @throws {RigError} `platform` when the module is not to be had for this
 * QEMU, and what {@linkcode findQemu} throws
 */
export async function findBlkio(options: RigOptions = {}): Promise<Blkio> {
  const qemu = await findQemu(options);
  const root = qemu.origin === "system" ? null : await moduleRoot(options);
  const blkio: Blkio = {
    version: qemu.version,
    program: (name) => {
      const invocation = qemu.program(name);
      return root === null ? invocation : withModule(invocation, root);
    },
  };
  await requireDriver(blkio, qemu.origin);
  return blkio;
}

/** The packages of the module for a QEMU, given the version of its package. */
export function blkioPackages(version: string): SysrootSpec {
  return {
    name: "blkio",
    suites: QEMU_PACKAGES.suites,
    packages: [
      "libblkio1",
      `qemu-utils=${version}`,
      `qemu-block-extra=${version}`,
    ],
    only: "^(libblkio1|qemu-block-extra)$",
  };
}

async function moduleRoot(options: RigOptions): Promise<string> {
  const root = await sysroot(QEMU_PACKAGES, options);
  const list = Deno.readTextFileSync(join(root, "packages.txt"));
  const version = /^qemu-utils (\S+)$/m.exec(list)?.[1] ?? "";
  try {
    return await sysroot(blkioPackages(version), options);
  } catch (error) {
    // Debian keeps the latest version only; what is cached may be older.
    if (!(error instanceof RigError && /was not found/.test(error.message))) {
      throw error;
    }
    throw new RigError(
      "platform",
      `Cannot load libblkio into QEMU: Debian has no qemu-block-extra ` +
        `${version} any more; remove "${root}" to have a newer QEMU fetched`,
    );
  }
}

function withModule(invocation: Invocation, root: string): Invocation {
  const library = findFile(root, ["usr/lib/x86_64-linux-gnu/libblkio.so.1"]);
  return {
    command: invocation.command,
    args: ["--preload", library, ...invocation.args],
    env: { ...invocation.env, QEMU_MODULE_DIR: join(root, MODULES) },
  };
}

/** Opens a disk that is not there: libblkio says so, if it is there itself. */
async function requireDriver(
  blkio: Blkio,
  origin: QemuInstallation["origin"],
): Promise<void> {
  const image = blkioImage("/nonexistent/blk.sock");
  let said: string;
  try {
    const args = ["-r", "--image-opts", image, "-c", "quit"];
    said = (await runBlkio(blkio, "qemu-io", args, { anyCode: true })).stderr;
  } catch (error) {
    if (!(error instanceof ProcessError && error.kind === "not-found")) {
      throw error;
    }
    said = error.message;
  }
  if (said.includes("blkio_connect failed")) return;
  throw new RigError(
    "platform",
    `Cannot load libblkio into QEMU ${blkio.version} (${origin}): ` +
      said.trim() +
      (origin === "system" ? "; Debian's package is qemu-block-extra" : ""),
  );
}

/** What `--image-opts` of QEMU's programs takes for a disk on a socket. */
export function blkioImage(socket: string): string {
  return "driver=virtio-blk-vhost-user,cache.direct=on," +
    `path=${socket.replaceAll(",", ",,")}`;
}

/**
 * Runs one of QEMU's programs to its end.
 *
 * @throws {ProcessError} as `runCommand`
 */
export function runBlkio(
  blkio: Blkio,
  name: "qemu-io" | "qemu-img",
  args: readonly string[],
  options: RunOptions = {},
): Promise<CommandResult> {
  const { command, args: own, env } = blkio.program(name);
  return runCommand(command, {
    name,
    env,
    ...options,
    args: [...own, ...args],
  });
}

/** How {@linkcode QemuIo} opens a disk. */
export interface QemuIoOptions {
  /** Open it for reading alone. */
  readonly readonly?: boolean;
  /** Have each write flushed, as QEMU's `cache=writethrough` does. */
  readonly durable?: boolean;
}

/** A running `qemu-io` that has a disk open. */
export class QemuIo implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #console: Console;

  private constructor(process: ChildProcess, console: Console) {
    this.#process = process;
    this.#console = console;
  }

  /**
   * Opens the disk on a socket.
   *
   * @throws {RigError} `guest` when it cannot be opened, with what `qemu-io`
   * said
   */
  static async open(
    blkio: Blkio,
    socket: string,
    options: QemuIoOptions = {},
  ): Promise<QemuIo> {
    const { command, args, env } = blkio.program("qemu-io");
    const { readonly = false, durable = false } = options;
    const process = ChildProcess.start(command, {
      args: [
        ...args,
        ...(readonly ? ["-r"] : []),
        ...["-t", durable ? "directsync" : "none"],
        ...["--image-opts", blkioImage(socket)],
      ],
      env,
      stdin: "piped",
      streamStdout: true,
      name: "qemu-io",
    });
    const console = Console.over(process, { name: "qemu-io" });
    const io = new QemuIo(process, console);
    try {
      await io.#prompt();
      return io;
    } catch (error) {
      await io[Symbol.asyncDispose]();
      const said = process.stderr.text.trim();
      if (!(error instanceof ConsoleError) || said === "") throw error;
      // Nothing was typed yet: the transcript adds nothing.
      if (error.transcriptPath !== null) Deno.removeSync(error.transcriptPath);
      throw new RigError("guest", `Cannot open "${socket}": ${said}`);
    }
  }

  /** Runs a command of `qemu-io`; what it prints on stdout. */
  async run(command: string): Promise<string> {
    await this.#console.sendLine(command);
    return await this.#prompt();
  }

  /** Closes the disk and ends it. */
  async close(): Promise<void> {
    await this.#console.sendLine("quit");
    await this.#process.wait(10_000);
  }

  async #prompt(): Promise<string> {
    const { before } = await this.#console.expect("qemu-io> ", {
      timeout: 20_000,
    });
    return before;
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#console.close();
    await this.#process.stop("SIGKILL");
  }
}
