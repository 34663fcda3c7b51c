/**
 * The contract between a virtio device and what hosts it.
 *
 * A device is one object. It lives in a data Worker, owns no thread, no socket
 * and no ring: it is called with queues, takes chains, works on ranges of guest
 * memory and hands the chains back. Everything that vhost-user needs (mapping,
 * starting and stopping rings, notifications, reconnects) happens around it.
 *
 * @module
 */

import type { GuestMemory } from "./memory.ts";
import type { RunningQueue, VirtQueue } from "./queue.ts";

/** Severity of a log line, least first. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** What the host offers to a device. */
export interface DeviceContext {
  /** The guest's memory; regions come and go only while nothing is in flight. */
  readonly memory: GuestMemory;
  /**
   * Chain objects of each queue: {@linkcode DescriptorChain.slot} is below this
   * times {@linkcode VirtioDevice.queueCount}.
   */
  readonly slotsPerQueue: number;
  /**
   * Number of the Worker that the device object lives in, from 0. With several,
   * each has an object of its own that serves a part of the queues.
   */
  readonly worker: number;
  /**
   * Has {@linkcode VirtioDevice.hear} of the device's objects in all other
   * Workers called, in the order of the calls here. Absent where there are no
   * others.
   *
   * @param value what `structuredClone` takes
   * @param heard called in the loop, later, when all have heard; a Worker that
   * failed hears nothing any more, and its device ends
   */
  tellOthers?(value: unknown, heard: () => void): void;
  /**
   * The asynchronous I/O of the loop, to be asked for by the factory: an
   * `IoUring` of `sys/io_uring`, or `null` where there is none. A device that
   * takes it submits and reaps in {@linkcode VirtioDevice.poll}.
   */
  ring(): object | null;
  /** Tells the driver that {@linkcode VirtioDevice.config} changed. */
  configChanged(): void;
  /** Asks for another {@linkcode VirtioDevice.serve} of a queue that returned `false`. */
  resume(queue: VirtQueue): void;
  /**
   * Calls `ready` in the loop whenever `fd` becomes readable (edge-triggered);
   * `null` stops watching.
   */
  watch(fd: number, ready: (() => void) | null): void;
  /** Writes one log line. */
  log(level: LogLevel, message: string): void;
  /**
   * Says what the device is about to wait for while it is made, as it completes
   * "waits for …": people are told when that takes long. Absent where nobody is.
   */
  waitsFor?(what: string): void;
  /**
   * What the device's predecessor gave to {@linkcode DeviceContext.keep} last,
   * before its process died; `undefined`: nothing.
   */
  readonly kept?: unknown;
  /**
   * Keeps a small JSON value for the device that comes in place of this one if
   * its process dies: state that the driver has set and believes to be there.
   * Absent where nobody could hand it on.
   *
   * @param kept called in the loop, later, when a successor would have it, or
   * nobody is left who could hand it on
   */
  keep?(value: unknown, kept?: () => void): void;
}

/**
 * A virtio device.
 *
 * The host calls, in this order: the factory ({@linkcode CreateDevice}),
 * `negotiate` whenever the driver acknowledges features, `activate` before the
 * first ring of the device runs, `start` for each ring before it runs, `serve`
 * while rings run, `quiesce` (or `suspend`) for each ring that stops, `deactivate`
 * after the last one stopped that is not to start again at once, `reset` when the
 * driver resets the device, `close` at the end.
 * Nothing is called concurrently.
 */
export interface VirtioDevice {
  /** Virtio device ID. Source: virtio 1.4, section 5 (2 is block, 4 entropy). */
  readonly deviceId: number;
  /**
   * Device feature bits offered (0 to 23 and 50 to 127, as a mask). Transport
   * and ring features belong to the host.
   */
  readonly features: bigint;
  /** Number of virtqueues. */
  readonly queueCount: number;
  /**
   * Longest chain, in descriptors, that the device works on (indirect ones
   * included, 1 to 32768). Longer ones arrive with
   * {@linkcode DescriptorChain.truncated} set.
   */
  readonly maxSegments: number;
  /**
   * Number of adjacent queues, from the first one on, that belong together and
   * are served by one object where several Workers share them (default 1: each
   * for itself). They are dealt out by turns.
   */
  readonly adjacentQueues?: number;
  /**
   * Chains of one queue that the device is to be given in one turn, from 1. What a
   * turn completes is published at its end: few of them (the default of the host)
   * suit requests that take long, many suit those that cost less than publishing.
   */
  readonly chainsPerTurn?: number;
  /**
   * True: notify the driver of every used buffer, although it asked for no
   * notification. The specification has drivers tolerate that (virtio 1.4,
   * section 2.7.7.2); it is for devices one of whose drivers turns notifications
   * off and waits for them all the same. Default: false.
   */
  readonly alwaysNotify?: boolean;
  /**
   * Device configuration space as the driver reads it now, little-endian, of
   * constant length (0 to 256 bytes).
   */
  readonly config: Uint8Array;
  /**
   * Offsets of 32-bit words of {@linkcode VirtioDevice.config} that the driver
   * writes and that the device reads when it has need of them. The host writes
   * them in place, from another thread and at any time, without a word to the
   * device: {@linkcode VirtioDevice.writeConfig} is not called. `config` then
   * lies in a SharedArrayBuffer, at a multiple of 4, and the device in one Worker.
   * Default: none.
   */
  readonly driverWords?: readonly number[];

  /**
   * The driver (or the front-end on its behalf) wrote the configuration space.
   * Apply driver-writable fields, ignore the rest.
   *
   * @param offset of the first byte written
   * @throws {ConfigRefusal} when a value cannot be had now: nothing changed
   */
  writeConfig?(offset: number, data: Uint8Array): void;

  /** The driver acknowledged this set of features (all 64 bits). */
  negotiate?(features: bigint): void;

  /**
   * What the device's object in another Worker told
   * ({@linkcode DeviceContext.tellOthers}).
   */
  hear?(value: unknown): void;

  /**
   * Called before the first ring runs. May throw: the rings then do not start. An
   * error whose `kind` is `locked` may be due to a predecessor that is ending: it
   * is called again, for some seconds.
   */
  activate?(): void;

  /**
   * A ring is about to run, from {@linkcode VirtQueue.position} on. That is where
   * it stopped, unless the driver was reset meanwhile: not every front-end says
   * so. When a region of memory goes, every ring stops and starts again, too.
   */
  start?(queue: VirtQueue): void;

  /**
   * Serves a queue: take up to `budget` chains and start, or finish, their work.
   *
   * @returns false when the device cannot go on with this queue for now (no
   * frame to deliver, say), although chains may be available; it then calls
   * {@linkcode DeviceContext.resume} when it can. True otherwise.
   */
  serve(queue: VirtQueue, budget: number): boolean;

  /**
   * Moves on asynchronous work: submits what `serve` prepared, completes what
   * is done. Called once a turn, after the queues were served.
   *
   * Within a turn nothing is said of the order in which queues are published, and
   * a driver may see one before another. What was completed before a call returned
   * is visible to the driver, on all queues, when the next call is made; but for
   * what IN_ORDER keeps back ({@linkcode VirtQueue.unanswered}).
   *
   * @returns number of chains completed, or of steps made with long requests:
   * above 0, the loop comes back at once instead of sleeping.
   */
  poll?(): number;

  /**
   * The ring is about to stop: complete, or give back with
   * {@linkcode VirtQueue.untake}, every chain that waits for an event. Chains
   * that wait for I/O are completed by the host's further calls of `poll`.
   *
   * What a predecessor left in flight is in no ring: where there is any, `serve` goes
   * on being called with this queue until it was taken, and `quiesce` again. A device
   * that takes nothing for now because of other queues takes it all the same.
   */
  quiesce?(queue: VirtQueue): void;

  /**
   * In place of {@linkcode VirtioDevice.quiesce}, where what was taken may stay in
   * flight: {@linkcode VirtQueue.abandon} every chain whose request nobody works on
   * any more, and have the I/O of the others end soon. They are abandoned by the
   * host's further calls of `poll` when they ended undone, and completed when they
   * are done. A device that comes after does them again, from the beginning.
   *
   * Called again now and then while chains of the queue are in flight. A device
   * without it is drained.
   */
  suspend?(queue: VirtQueue): void;

  /**
   * Writes to guest memory are being logged (a live migration copies it), or no
   * more. A page whose contents the device drops meanwhile, without a request of
   * the driver's that says where it writes, would be copied or not by chance.
   */
  logWrites?(on: boolean): void;

  /** Every ring has stopped, for some time, and nothing is in flight. */
  deactivate?(): void;

  /** Back to the state after creation, as far as the driver can see. */
  reset?(): void;

  /**
   * A management command addressed to this device (`resize`, say).
   *
   * @returns a JSON value.
   */
  command?(
    name: string,
    parameters: Readonly<Record<string, unknown>>,
  ): unknown | Promise<unknown>;

  /** What people want to know of the device now: a JSON object of counters and facts. */
  status?(): Record<string, unknown>;

  /** Gives everything back. Nothing is in flight. */
  close?(): void;
}

/**
 * Makes a device. The default export of a device module has this type; the
 * module is imported by the data Worker.
 *
 * @typeParam Options what the device is configured with: JSON values only,
 * since they cross to a Worker.
 */
export type CreateDevice<Options = Readonly<Record<string, unknown>>> = (
  options: Options,
  context: DeviceContext,
) => VirtioDevice | Promise<VirtioDevice>;

export { ConfigRefusal } from "./config_refusal.ts";
export type { RunningQueue, VirtQueue };
