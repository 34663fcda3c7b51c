/**
 * Reads from a disk that wait in the kernel, for as long as a test wants.
 *
 * Theory of operation: a group of the blkio controller (cgroup v1) gets one read a
 * second from the disk that a file lies on. Reads of a process of the group that
 * go past the page cache wait in the block layer, where nothing cancels them: not
 * even the end of the process.
 *
 * @module
 */

import { DataFile } from "../../sys/file.ts";
import { waitUntil } from "./deadline.ts";
import { TemporaryDirectory } from "./temporary_directory.ts";

const CONTROLLER = "/sys/fs/cgroup/blkio";
const RULE = "blkio.throttle.read_iops_device";
const PAGE = 4096;

/** Slows the reads of processes that are added to it. */
export class ReadThrottle implements AsyncDisposable {
  readonly #group: string;
  readonly #disk: string;

  private constructor(group: string, disk: string) {
    this.#group = group;
    this.#disk = disk;
  }

  /** Why there is none on this machine; `null`: there is. */
  static missing(): string | null {
    using directory = TemporaryDirectory.make("throttle");
    const path = directory.file("probe");
    Deno.writeFileSync(path, new Uint8Array(PAGE));
    if (diskOf(path) === null) return "temporary files lie on no disk";
    try {
      Deno.openSync(`${CONTROLLER}/${RULE}`, { write: true }).close();
    } catch {
      return "needs root and the blkio controller of cgroup v1";
    }
    try {
      DataFile.open(path, { direct: true }).close();
      return null;
    } catch {
      return "the temporary directory's file system has no direct I/O";
    }
  }

  /** Makes one for the disk that a file lies on. */
  static make(path: string): ReadThrottle {
    const group = `${CONTROLLER}/vhostd-test-${crypto.randomUUID()}`;
    Deno.mkdirSync(group);
    const throttle = new ReadThrottle(group, diskOf(path)!);
    Deno.writeTextFileSync(`${group}/${RULE}`, `${throttle.#disk} 1`);
    return throttle;
  }

  /** Slows a process down. */
  add(pid: number): void {
    Deno.writeTextFileSync(`${this.#group}/cgroup.procs`, `${pid}`);
  }

  /** Lets all reads go. */
  release(): void {
    Deno.writeTextFileSync(`${this.#group}/${RULE}`, `${this.#disk} 0`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.release();
    const path = `${this.#group}/cgroup.procs`;
    await waitUntil(() => Deno.readTextFileSync(path) === "", {
      what: "slow processes to end",
    });
    Deno.removeSync(this.#group);
  }
}

/** Numbers of the disk that a file lies on, as `8:0`; `null`: on none. */
function diskOf(path: string): string | null {
  const { dev } = Deno.statSync(path);
  // Source: makedev(3).
  const major = dev >> 8 & 0xfff, minor = dev & 0xff | dev >> 12 & 0xfff00;
  const device = `/sys/dev/block/${major}:${minor}`;
  try {
    Deno.statSync(device);
  } catch {
    return null;
  }
  try {
    Deno.statSync(`${device}/partition`);
  } catch {
    return `${major}:${minor}`;
  }
  return Deno.readTextFileSync(`${device}/../dev`).trim();
}
