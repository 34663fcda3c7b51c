/**
 * What loads a back-end: the load generator of our own, or QEMU's over
 * libblkio, a front-end and driver that others wrote.
 *
 * `qemu-img bench` takes a number of requests and tells one figure, seconds
 * with three decimals. So a first, short load shows how many requests fit into
 * the time; later rounds go by the one before. It cannot choose blocks at
 * random: it strides, so that it meets each block of the disk once before it
 * meets one again. It verifies nothing. QEMU copies the data of this driver
 * through a pool of 128 KiB and one request: no more requests than fit into
 * that are in flight, whatever the depth.
 *
 * @module
 */

import { type Blkio, blkioImage } from "../guest/rig/blkio.ts";
import { runCommand } from "../support/process.ts";
import { CLIENT_CPU, type Disk, pinned } from "./backends.ts";
import type { LoadResult } from "./load.ts";
import type { Measurement } from "./report.ts";

const LOAD = new URL("./load.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

/** What a client does to a disk. */
export interface Load {
  readonly operation: "read" | "write";
  /** One block after the other, or all over the disk. */
  readonly pattern: "sequential" | "scattered";
  /** Bytes of a request. */
  readonly blockSize: number;
  /** Requests in flight. */
  readonly depth: number;
  /** Wait for notifications, or look at the ring all the time. */
  readonly mode: "sleep" | "poll";
  /** Check what is read. */
  readonly verify: boolean;
}

/** How a client speaks to a back-end. */
export interface Manner {
  /** It has requests in flight tracked. */
  readonly tracked?: boolean;
  /** Its ring is a packed one. */
  readonly packed?: boolean;
  /** Its driver knows neither EVENT_IDX nor indirect descriptors. */
  readonly plain?: boolean;
  /** Process id of the back-end: a client of ours tells its CPU time. */
  readonly pid?: number;
}

/** A client. */
export interface Client {
  /** Its word for blocks all over the disk. */
  readonly scattered: string;
  /** Whether it does other than usual, see {@linkcode Manner}. */
  readonly versatile: boolean;
  /** Whether it can wait that way. */
  can(mode: Load["mode"]): boolean;
  /**
   * Loads a disk.
   *
   * @throws {ProcessError} when requests fail or are answered wrongly
   */
  run(
    disk: Disk,
    load: Load,
    seconds: number,
    manner: Manner,
  ): Promise<Measurement>;
}

/** The load generator of our own. */
export const ownClient: Client = {
  scattered: "random",
  versatile: true,
  can: () => true,
  run: async (
    { socket, device, size },
    load,
    seconds,
    { tracked, packed, plain, pid },
  ) => {
    const [program, prefix] = pinned(CLIENT_CPU, Deno.execPath());
    const { stdout } = await runCommand(program, {
      args: [
        ...prefix,
        ...["run", "--quiet", "--allow-all", `--config=${CONFIG}`, LOAD],
        ...[`--socket=${socket}`, `--seconds=${seconds}`],
        `--operation=${load.operation}`,
        `--pattern=${load.pattern === "scattered" ? "random" : load.pattern}`,
        ...[`--block-size=${load.blockSize}`, `--depth=${load.depth}`],
        `--mode=${load.mode}`,
        ...(load.verify ? [] : ["--no-verify"]),
        ...(tracked ? ["--inflight"] : []),
        ...(device === "scsi" ? ["--device=scsi", `--size=${size}`] : []),
        ...(packed ? ["--packed"] : []),
        ...(plain ? ["--no-event-idx", "--no-indirect"] : []),
        ...(pid === undefined ? [] : [`--pid=${pid}`]),
      ],
      timeout: 30_000 + 2000 * seconds,
    });
    return JSON.parse(stdout) as LoadResult;
  },
};

/** How long (s) a load must take to tell the rate. */
const TELLING = 0.1;

/** `qemu-img bench` over libblkio. */
export function blkioClient(blkio: Blkio): Client {
  /** Requests in a second, by disk and load. */
  const rates = new Map<string, number>();
  return {
    scattered: "strided",
    versatile: false,
    can: (mode) => mode === "sleep",
    run: async (disk, load, seconds) => {
      const key = JSON.stringify([disk, load]);
      const bench = async (requests: number) => {
        const { command, args, env } = blkio.program("qemu-img");
        const [program, prefix] = pinned(CLIENT_CPU, command);
        const { stdout } = await runCommand(program, {
          name: "qemu-img",
          args: [...prefix, ...args, ...benchArguments(disk, load, requests)],
          env,
          timeout: (seconds + 10) * 10_000,
        });
        return parseBench(stdout);
      };
      let total = 0;
      let rate = rates.get(key);
      for (let count = 8 * load.depth; rate === undefined; count *= 8) {
        const elapsed = await bench(count);
        total += count;
        if (elapsed >= Math.min(TELLING, seconds)) rate = count / elapsed;
      }
      const requests = Math.max(load.depth, Math.ceil(rate * seconds));
      const elapsed = await bench(requests);
      const iops = requests / elapsed;
      rates.set(key, iops);
      return {
        requests,
        total: total + requests,
        seconds: elapsed,
        iops,
        megabytes: iops * load.blockSize / 1e6,
        errors: 0,
      };
    },
  };
}

/** Arguments of `qemu-img` for so many requests. */
export function benchArguments(
  disk: Pick<Disk, "socket" | "size">,
  load: Load,
  requests: number,
): string[] {
  const { operation, pattern, blockSize, depth } = load;
  const blocks = disk.size / blockSize;
  // Odd, so it has no divisor in common with a power of two.
  const stride = pattern === "sequential" ? 1 : Math.floor(blocks * 0.618) | 1;
  return [
    ...["bench", "-t", "none", "-c", String(requests), "-d", String(depth)],
    ...["-s", String(blockSize), "-S", String(stride * blockSize)],
    ...(operation === "write" ? ["-w"] : []),
    ...["--image-opts", blkioImage(disk.socket)],
  ];
}

/** The seconds in what `qemu-img bench` prints, at least half of its unit. */
export function parseBench(output: string): number {
  const seconds = /^Run completed in ([\d.]+) seconds\.$/m.exec(output)?.[1];
  if (seconds === undefined) {
    throw new Error(`Cannot find the time in what qemu-img said: ${output}`);
  }
  return Math.max(Number(seconds), 0.0005);
}
