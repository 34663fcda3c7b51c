/**
 * The TAP backend: frames of the guest are frames of a network interface of the
 * host.
 *
 * Theory of operation: a frame is written to the TAP straight from the guest's
 * memory, behind a virtio header of ours, and read into a buffer of ours. The
 * kernel takes and gives the offloads that were negotiated. Frames for the guest
 * wait in the kernel, whose queue is bounded, until the guest has room.
 *
 * Each queue pair has a queue of the TAP; those of pairs that the guest does not
 * use are detached, so that the kernel steers nothing to them. Where several
 * Workers share the pairs, each has the queues of its own; what is set for the
 * interface as a whole is set by the one with the first pair, whose queue is
 * always attached.
 *
 * @module
 */

import { Errno } from "../../sys/errno.ts";
import { readScattered, writeScattered } from "../../sys/scatter.ts";
import { Tap } from "../../sys/tap.ts";
import type { DeviceContext } from "../../virtqueue/device.ts";
import { type NetBackend, type NetPort, SENT, WAIT } from "./backend.ts";
import { Frame } from "./frame.ts";
import { HEADER_SIZE, MAX_FRAME, MAX_PAIRS, Offload } from "./protocol.ts";

const ALL: number = Offload.CSUM | Offload.TSO4 | Offload.TSO6 | Offload.ECN |
  Offload.UFO;

/** Sets of offloads to try, best first: kernels differ in UFO. */
const OFFLOAD_SETS: readonly number[] = [
  ALL,
  Offload.CSUM | Offload.TSO4 | Offload.TSO6 | Offload.ECN,
  Offload.CSUM,
];

/** What the TAP of a queue pair reads into, and where it stands. */
interface TapQueue {
  readonly pair: number;
  readonly tap: Tap;
  readonly frame: Frame;
  /** There may be something to read. */
  readable: boolean;
  /** A frame was read and waits for the guest. */
  pending: boolean;
  attached: boolean;
}

/** Counters of the TAP. */
interface TapCounters {
  /** Frames that the kernel did not take, by reason. */
  refused: number;
  /** Those for which it had no room. */
  full: number;
  /** Those that came while the interface was down. */
  down: number;
}

/** Frames to and from a TAP. */
export class TapBackend implements NetBackend {
  readonly description: string;
  readonly takes: number;
  readonly gives: number;
  readonly maxPairs: number;
  readonly linkUp = true;
  /** Name of the interface. */
  readonly interfaceName: string;
  readonly #queues: TapQueue[];
  /** The same by pair; those of other Workers are missing. */
  readonly #byPair: (TapQueue | undefined)[] = [];
  readonly #context: DeviceContext;
  readonly #counters: TapCounters = { refused: 0, full: 0, down: 0 };
  #port: NetPort | null = null;

  /**
   * Takes over the queues of a TAP, one for each queue pair of this Worker.
   *
   * @param taps all of one interface, attached
   * @param workers how many share the pairs: pair i is the one's whose number is
   * i modulo so many
   */
  constructor(taps: readonly Tap[], context: DeviceContext, workers = 1) {
    const [{ name, headerSize }] = taps;
    this.#context = context;
    this.interfaceName = name;
    this.description = `tap ${name}`;
    this.maxPairs = workers * taps.length > 1 ? MAX_PAIRS : 1;
    const known = headerSize === HEADER_SIZE
      ? OFFLOAD_SETS.find((set) => taps[0].setOffload(set)) ?? 0
      : 0;
    if (known !== 0) taps[0].setOffload(0);
    this.takes = headerSize > 0 ? ALL : 0;
    this.gives = known;
    this.#queues = taps.map((tap, i) => {
      const pair = workers === 1 ? i : i * workers + context.worker;
      const queue: TapQueue = {
        pair,
        tap,
        frame: new Frame(1, MAX_FRAME + 1),
        readable: true,
        pending: false,
        attached: true,
      };
      context.watch(tap.fd, () => {
        queue.readable = true;
        this.#port?.receivable(pair);
      });
      this.#byPair[pair] = queue;
      return queue;
    });
    this.setPairs(1);
  }

  /**
   * Opens a queue of an interface for each queue pair of this Worker.
   *
   * @param name of the interface, made if there is none
   * @param pairs of the device, in all Workers
   * @throws {SystemError} as {@linkcode Tap.open}
   */
  static open(
    name: string,
    pairs: number,
    context: DeviceContext,
    workers = 1,
  ): TapBackend {
    const taps: Tap[] = [];
    const first = workers === 1 ? 0 : context.worker;
    try {
      for (let i = first; i < pairs; i += workers) {
        const multiQueue = pairs > 1;
        taps.push(Tap.open(taps[0]?.name ?? name, { multiQueue }));
      }
      return new TapBackend(taps, context, workers);
    } catch (error) {
      for (const tap of taps) tap.close();
      throw error;
    }
  }

  attach(port: NetPort): void {
    this.#port = port;
  }

  setOffloads(offloads: number): void {
    if (this.gives === 0) return;
    this.#byPair[0]?.tap.setOffload(offloads & this.gives);
  }

  setPairs(pairs: number): void {
    this.#queues.forEach((queue) => {
      const attached = queue.pair < pairs;
      if (attached === queue.attached) return;
      queue.tap.setAttached(attached);
      queue.attached = attached;
      queue.readable = attached;
      queue.pending &&= attached;
    });
  }

  send(frame: Frame, pair: number): number {
    // A pair that the driver stopped using may still have frames to send.
    const queue = this.#byPair[pair];
    const { tap } = queue?.attached ? queue : this.#queues[0];
    const first = tap.headerSize === 0 ? 1 : 0;
    frame.header.encode(frame.lead, 0);
    const count = frame.count + 1 - first;
    const sent = writeScattered(tap.fd, frame.iovecs, first, count);
    if (sent < 0) this.#refused(-sent);
    return SENT;
  }

  receive(pair: number, budget: number): boolean {
    const queue = this.#byPair[pair]!;
    const { tap, frame } = queue;
    const first = tap.headerSize === 0 ? 1 : 0;
    for (let i = 0; i < budget; i++) {
      if (!queue.pending) {
        if (!queue.readable) return false;
        frame.offerBytes(0);
        const n = readScattered(tap.fd, frame.iovecs, first, 2 - first);
        if (n <= tap.headerSize) {
          queue.readable = false;
          return false;
        }
        if (first === 0) frame.header.decode(frame.lead);
        else frame.header.clear();
        frame.takeBytes(0, n - tap.headerSize);
      }
      queue.pending = this.#port!.deliver(frame, pair, true) === WAIT;
      if (queue.pending) return true;
    }
    return true;
  }

  status(): Record<string, unknown> {
    return {
      tap: {
        interface: this.interfaceName,
        queues: this.#queues.length,
        attached: this.#queues.filter(({ attached }) => attached).length,
        ...this.#counters,
      },
    };
  }

  close(): void {
    for (const { tap, frame } of this.#queues) {
      this.#context.watch(tap.fd, null);
      tap.close();
      frame[Symbol.dispose]();
    }
  }

  #refused(reason: number): void {
    if (reason === Errno.EAGAIN || reason === Errno.ENOBUFS) {
      this.#counters.full++;
    } else if (reason === Errno.EIO) this.#counters.down++;
    else this.#counters.refused++;
  }
}
