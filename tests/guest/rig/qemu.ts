/**
 * QEMU: finding one that is new enough, and running a machine whose memory a
 * vhost-user back-end can map.
 *
 * Theory of operation: a machine is started with its console on stdio and a
 * monitor (QMP) that QEMU connects to a socket of ours, so that nothing is
 * polled. It ends with its guest (power off; without `reboot`, reset), with
 * `close`, and, through `-run-with exit-with-parent=on`, with the test
 * itself, however that ends. Memory is a shared memfd and small: tests of
 * several processes run beside it.
 *
 * @module
 */

import { Console, type ConsoleOptions } from "../../support/console.ts";
import { withDeadline } from "../../support/deadline.ts";
import {
  ChildProcess,
  lastLines,
  ProcessError,
  runCommand,
} from "../../support/process.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { findProgram } from "./apt.ts";
import { cacheDirectory, type RigOptions } from "./cache.ts";
import { RigError } from "./error.ts";
import {
  inSysroot,
  type Invocation,
  sysroot,
  type SysrootSpec,
} from "./packages.ts";
import { QmpClient } from "./qmp.ts";

/**
 * The oldest QEMU that serves: 10.2 brings `vhost-user-test-device` and
 * `exit-with-parent`; 10.0 aborts now and then with two processors.
 */
export const MINIMUM_QEMU: readonly [number, number] = [10, 2];

/** QEMU's packages, for systems whose own is older. */
export const QEMU_PACKAGES: SysrootSpec = {
  name: "qemu",
  suites: ["trixie", "trixie-backports"],
  packages: [
    "qemu-system-x86",
    "qemu-system-data",
    "qemu-system-common",
    "qemu-utils",
    "seabios",
  ].map((name) => `${name}/trixie-backports`),
};

const EMULATOR = "qemu-system-x86_64";

/** Programs that a system's QEMU must have to be taken. */
const PROGRAMS = [EMULATOR, "qemu-storage-daemon", "qemu-img"];

/** How long (ms) QEMU may take to open its monitor. */
const START_TIMEOUT = 20_000;

/** A QEMU that can be run. */
export interface QemuInstallation {
  /** Its version, `11.1.3` say. */
  readonly version: string;
  /** Where it comes from: the system or the cache. */
  readonly origin: "system" | "private";
  /**
   * How to run one of its programs (`qemu-system-x86_64`,
   * `qemu-storage-daemon`, `qemu-img`).
   */
  program(name: string): Invocation;
}

/** What `findQemu` has found, by cache directory. */
const installations = new Map<string, Promise<QemuInstallation>>();

/**
 * The system's QEMU if it is new enough and complete, else Debian's, fetched
 * into the cache. A process looks once.
 *
 * @throws {RigError} when neither is to be had
 */
export function findQemu(
  options: RigOptions = {},
): Promise<QemuInstallation> {
  const cache = options.cache ?? cacheDirectory();
  let found = installations.get(cache);
  if (found === undefined) {
    found = systemQemu().then((system) => system ?? privateQemu(options));
    installations.set(cache, found);
    found.catch(() => installations.delete(cache));
  }
  return found;
}

async function systemQemu(): Promise<QemuInstallation | null> {
  const found = new Map<string, string>();
  for (const name of PROGRAMS) {
    const path = findProgram(name);
    if (path === null) return null;
    found.set(name, path);
  }
  const program = (name: string): Invocation => ({
    command: found.get(name) ?? name,
    args: [],
    env: {},
  });
  try {
    const version = await queryVersion(program(EMULATOR));
    if (!isNewEnough(version)) return null;
    const devices = await runCommand(program(EMULATOR).command, {
      args: ["-machine", "none", "-device", "help"],
    });
    if (!devices.stdout.includes('"vhost-user-blk-pci"')) return null;
    return { version, origin: "system", program };
  } catch (error) {
    if (error instanceof ProcessError) return null; // it does not even start
    throw error;
  }
}

async function privateQemu(options: RigOptions): Promise<QemuInstallation> {
  let root: string;
  try {
    root = await sysroot(QEMU_PACKAGES, options);
  } catch (error) {
    if (!(error instanceof RigError && error.kind === "platform")) throw error;
    throw new RigError(
      "platform",
      `Cannot find QEMU ${MINIMUM_QEMU.join(".")} or later (${
        PROGRAMS.join(", ")
      } in PATH), nor fetch one. ${error.message}`,
    );
  }
  const program = (name: string): Invocation => {
    const { command, args } = inSysroot(root, name);
    const data = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"]
      .flatMap((directory) => ["-L", `${root}/${directory}`]);
    return {
      command,
      args: name === EMULATOR ? [...args, ...data] : args,
      env: { QEMU_MODULE_DIR: `${root}/usr/lib/x86_64-linux-gnu/qemu` },
    };
  };
  const version = await queryVersion(program(EMULATOR));
  return { version, origin: "private", program };
}

async function queryVersion(emulator: Invocation): Promise<string> {
  const { stdout } = await runCommand(emulator.command, {
    args: [...emulator.args, "--version"],
    env: emulator.env,
    name: EMULATOR,
  });
  return parseVersion(stdout) ?? "0";
}

/** The version in the output of `--version`, or `null`. */
export function parseVersion(output: string): string | null {
  return /^QEMU emulator version (\d+\.\d+[\d.]*)/.exec(output)?.[1] ?? null;
}

/** True for {@linkcode MINIMUM_QEMU} and later. */
export function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [wantMajor, wantMinor] = MINIMUM_QEMU;
  return major > wantMajor || (major === wantMajor && minor >= wantMinor);
}

/** A machine. */
export interface QemuOptions extends RigOptions {
  /** A word for messages and transcripts (`qemu`). */
  name?: string;
  /** Memory in MiB, at most 512 (256); 16,384 when `sparse`. */
  memory?: number;
  /** A guest that leaves most of its memory untouched: the host keeps little. */
  sparse?: boolean;
  /** Virtual processors (1). */
  smp?: number;
  /** The machine type (`q35`). */
  machine?: "q35" | "pc";
  /** What runs the guest's instructions (`tcg`). */
  accel?: "tcg" | "kvm";
  /** Arguments for devices, back-ends and what else the test needs. */
  devices?: readonly string[];
  /** A kernel to boot directly. */
  kernel?: string;
  /** Its initial RAM disk. */
  initrd?: string;
  /** Its command line. */
  append?: string;
  /** Firmware in place of SeaBIOS. */
  bios?: string;
  /** Let the guest reset (else a reset ends QEMU). */
  reboot?: boolean;
  /** How the console behaves. */
  console?: ConsoleOptions;
}

/** The largest memory (MiB) of a test's guest, and of a sparse one. */
const MEMORY_LIMIT = 512, SPARSE_MEMORY_LIMIT = 16_384;

/** A running machine. */
export class Qemu implements AsyncDisposable {
  /** The QEMU that runs it. */
  readonly installation: QemuInstallation;
  /** Its first serial port. */
  readonly console: Console;
  /** Its monitor. */
  readonly qmp: QmpClient;
  /** Its process. */
  readonly process: ChildProcess;
  /** Resolves to QEMU's exit code when it has ended. */
  readonly exited: Promise<number>;
  #directory: TemporaryDirectory;
  #closed = false;

  /** Use {@linkcode startQemu}. */
  constructor(
    installation: QemuInstallation,
    process: ChildProcess,
    console: Console,
    qmp: QmpClient,
    directory: TemporaryDirectory,
  ) {
    this.installation = installation;
    this.process = process;
    this.console = console;
    this.qmp = qmp;
    this.#directory = directory;
    this.exited = process.status.then(({ code }) => code);
  }

  /** QEMU's process id. */
  get pid(): number {
    return this.process.pid;
  }

  /** What QEMU has said on stderr. */
  get messages(): string {
    return this.process.stderr.text;
  }

  /**
   * Waits until QEMU ends by itself.
   *
   * @returns its exit code
   * @throws {DeadlineError} after `timeout` milliseconds
   */
  wait(timeout: number): Promise<number> {
    return withDeadline(this.exited, timeout, `${this.process.name} to end`);
  }

  /** Ends QEMU, by its process id, and all that belongs to it. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.console.close();
    await this.qmp[Symbol.asyncDispose]();
    this.#directory[Symbol.dispose]();
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Starts a machine. It runs under TCG unless the test is told otherwise: nested
 * KVM is not to be had everywhere, and what works here must work there.
 *
 * @throws {RigError} `guest` when QEMU ends at once, with what it said
 * @throws {RangeError} for more memory than a test may take
 */
export async function startQemu(options: QemuOptions = {}): Promise<Qemu> {
  const { memory = 256, name = "qemu", sparse = false } = options;
  const limit = sparse ? SPARSE_MEMORY_LIMIT : MEMORY_LIMIT;
  if (memory > limit) {
    throw new RangeError(
      `Cannot give a guest ${memory} MiB: tests take at most ${limit}`,
    );
  }
  const installation = await findQemu(options);
  const emulator = installation.program(EMULATOR);
  const directory = TemporaryDirectory.make("qemu");
  const monitor = directory.file("qmp.sock");
  using listener = Deno.listen({ transport: "unix", path: monitor });
  const process = ChildProcess.start(emulator.command, {
    args: [...emulator.args, ...machineArguments(options, memory, monitor)],
    env: emulator.env,
    stdin: "piped",
    streamStdout: true,
    name,
  });
  const console = Console.over(process, { name, ...options.console });
  const ended = process.status.then(({ code }) => {
    throw new RigError(
      "guest",
      `${name} ended at once with code ${code}:\n` +
        lastLines(process.stderr.text),
    );
  });
  ended.catch(() => {}); // once it runs, its end is the caller's to see
  try {
    const opened = listener.accept().then(QmpClient.open);
    const qmp = await withDeadline(
      // A monitor that is closed at once: why, the end of QEMU tells.
      Promise.race([opened.catch(() => ended), ended]),
      START_TIMEOUT,
      `${name} to open its monitor`,
    );
    return new Qemu(installation, process, console, qmp, directory);
  } catch (error) {
    await console.close();
    directory[Symbol.dispose]();
    throw error;
  }
}

function machineArguments(
  options: QemuOptions,
  memory: number,
  monitor: string,
): string[] {
  const { machine = "q35", smp = 1, accel = "tcg", devices = [] } = options;
  const reserve = options.sparse ? ",reserve=off" : "";
  return [
    "-nodefaults",
    "-no-user-config",
    ...["-display", "none"],
    ...["-run-with", "exit-with-parent=on"],
    ...["-accel", accel],
    ...["-cpu", "max"],
    ...["-smp", String(smp)],
    ...["-m", String(memory)],
    "-object",
    `memory-backend-memfd,id=mem,size=${memory}M,share=on${reserve}`,
    ...["-machine", `${machine},memory-backend=mem`],
    ...["-qmp", `unix:${monitor},server=off`],
    ...["-chardev", "stdio,id=console,signal=off"],
    ...["-serial", "chardev:console"],
    ...(options.reboot ? [] : ["-no-reboot"]),
    ...(options.kernel ? ["-kernel", options.kernel] : []),
    ...(options.initrd ? ["-initrd", options.initrd] : []),
    ...(options.append ? ["-append", options.append] : []),
    ...(options.bios ? ["-bios", options.bios] : []),
    ...devices,
  ];
}
