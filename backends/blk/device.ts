/**
 * The virtio block device.
 *
 * Theory of operation. `serve` takes chains, judges each request and starts it;
 * the storage tells of its end, at once or from `poll`, and then the request is
 * answered. A request that needs several storage operations, one after the
 * other (the ranges of a discard, a write and the flush that makes it durable),
 * is a small state machine: its phase is noted under the slot of its chain, and
 * the end of each operation starts the next one. So it does not matter whether
 * an engine completes inside `submit` or later and in any order.
 *
 *     IN            reading ----------------------------------> answered
 *     OUT           writing --> (writethrough: syncing) ------> answered
 *     FLUSH         flushing ---------------------------------> answered
 *     DISCARD       ranging --> ranging ... ------------------> answered
 *     WRITE_ZEROES  ranging ... --> (writethrough: syncing) --> answered
 *
 * Where requests may stay in flight when their ring stops, one that cannot end, or
 * has steps to go, is left undone: whoever comes next begins it again.
 *
 * All state of a request lies in arrays made at the start: nothing is allocated
 * for a request.
 *
 * Ranges are read from guest memory twice: all of them are judged before any is
 * worked on, and each is read again, judged again, and used from then on. So no
 * room for copies is needed, and what the driver changes in between is caught.
 *
 * Length of the answer: the bytes written, status included. An answer without
 * data has length 1, also where the driver gave room for data.
 *
 * Source: virtio 1.4, section 5.2.
 *
 * @module
 */

import { Errno } from "../../sys/errno.ts";
import { IoTable } from "../../sys/io_table.ts";
import type { DescriptorChain } from "../../virtqueue/chain.ts";
import { hasFeature, VIRTIO_F_VERSION_1 } from "../../virtqueue/constants.ts";
import type {
  DeviceContext,
  VirtioDevice,
  VirtQueue,
} from "../../virtqueue/device.ts";
import {
  type Storage,
  STORAGE_FLUSH,
  STORAGE_READ,
  STORAGE_WRITE,
} from "../storage/storage.ts";
import { CacheMode } from "./cache_mode.ts";
import { describeConfig, offeredFeatures } from "./describe.ts";
import { Failures } from "./failures.ts";
import { BlkMetrics } from "./metrics.ts";
import { REGION_CROSSINGS, type ResolvedBlkOptions } from "./options.ts";
import {
  DISCARDING,
  FLUSHING,
  isFlush,
  OPERATIONS,
  READING,
  SYNCING,
  WRITING,
  ZEROING,
} from "./phases.ts";
import {
  CONFIG_SIZE,
  CONFIG_WRITEBACK,
  DEVICE_ID_SIZE,
  encodeConfig,
  REQUEST_HEADER_SIZE,
  SECTOR_SIZE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_ID_BLOCK,
} from "./protocol.ts";
import { Ranges, RANGES_DONE } from "./ranges.ts";
import {
  BlkRequest,
  countBuffers,
  REQUEST_NO_STATUS,
  REQUEST_OK,
  REQUEST_READ_ONLY,
  REQUEST_TOO_MANY_SEGMENTS,
  REQUEST_UNSUPPORTED,
  statusOf,
} from "./request.ts";

/** Descriptors beyond the data's: a header in single bytes, and a status. */
const FRAMING_DESCRIPTORS = REQUEST_HEADER_SIZE + 1;

// Of this module's own, and so constants in compiled code.
const OK = REQUEST_OK;
const HEADER = REQUEST_HEADER_SIZE;
const SECTOR = SECTOR_SIZE;
const IN = VIRTIO_BLK_T_IN;
const OUT = VIRTIO_BLK_T_OUT;
const READ = READING;
const WRITE = WRITING;
const STATUS_OK = VIRTIO_BLK_S_OK;
const OP_READ = STORAGE_READ;
const OP_WRITE = STORAGE_WRITE;

/** A virtio block device over any {@linkcode Storage}. */
export class BlkDevice implements VirtioDevice {
  readonly deviceId: number = VIRTIO_ID_BLOCK;
  readonly features: bigint;
  readonly queueCount: number;
  readonly maxSegments: number;
  readonly config: Uint8Array<ArrayBuffer> = new Uint8Array(CONFIG_SIZE);
  /** What was counted since the device was made. */
  readonly metrics: BlkMetrics = new BlkMetrics();
  readonly #options: ResolvedBlkOptions;
  readonly #storage: Storage;
  readonly #context: DeviceContext;
  readonly #cache: CacheMode;
  readonly #failures: Failures;
  readonly #request = new BlkRequest();
  /** Operands of the storage operations in flight, by slot. */
  readonly #table: IoTable;
  readonly #id = new Uint8Array(DEVICE_ID_SIZE);
  readonly #segMax: number;
  /** Iovecs of as many segments, wherever they lie. */
  readonly #mostIovecs: number;
  readonly #blockSize: number;
  readonly #discards: boolean;
  /** Capacity in sectors. */
  #capacity = 0;
  #legacy = true;
  // The requests in flight, by the slots of their chains.
  readonly #chains: (DescriptorChain | null)[];
  readonly #phases: Uint8Array<ArrayBuffer>;
  readonly #ranges: Ranges;
  /** The queue whose requests are not to go on; `null`: none yet. */
  #suspending: VirtQueue | null = null;

  /** Makes a device of a storage, which it closes in the end. */
  constructor(
    options: ResolvedBlkOptions,
    storage: Storage,
    context: DeviceContext,
  ) {
    this.#options = options;
    this.#storage = storage;
    this.#context = context;
    const kept = context.kept as { writeback?: boolean } | null | undefined;
    this.#cache = new CacheMode(options.wce, kept?.writeback);
    this.#failures = new Failures(context);
    this.#segMax = options.segMax;
    this.#mostIovecs = options.segMax + REGION_CROSSINGS;
    this.#blockSize = storage.blockSize;
    this.#discards = options.discard && storage.canDiscard;
    this.features = offeredFeatures(options, storage);
    this.queueCount = options.queues;
    this.maxSegments = options.segMax + FRAMING_DESCRIPTORS;
    new TextEncoder().encodeInto(options.serial, this.#id);
    const slots = context.slotsPerQueue * options.queues;
    this.#table = new IoTable(slots, this.#mostIovecs);
    this.#chains = new Array(slots).fill(null);
    this.#phases = new Uint8Array(slots);
    this.#ranges = new Ranges(storage, this.#table, options.discard);
    storage.attach(this.#table);
    storage.onComplete = (slot, result) => this.#finished(slot, result);
    this.#describe();
  }

  writeConfig(offset: number, data: Uint8Array): void {
    const at = CONFIG_WRITEBACK - offset;
    if (at < 0 || at >= data.length) return;
    this.#cache.write(data[at], () => this.#storage.datasync());
    this.#keep();
  }

  negotiate(features: bigint): void {
    this.#legacy = !hasFeature(features, VIRTIO_F_VERSION_1);
    this.#cache.negotiate(features);
    this.#describe();
  }

  activate(): void {
    this.#storage.acquire();
  }

  start(queue: VirtQueue): void {
    this.#failures.begin(queue);
  }

  serve(queue: VirtQueue, budget: number): boolean {
    for (let i = 0; i < budget; i++) {
      if (this.#failures.stops(queue)) return false;
      const chain = queue.take();
      if (chain === null) break;
      const verdict = this.#start(chain);
      if (verdict !== OK) this.#refuse(chain, verdict);
    }
    return true;
  }

  poll(): number {
    const before = this.metrics.completed;
    this.#storage.poll();
    return this.metrics.completed - before;
  }

  /** Requests that are held are answered: their ring may never come back. */
  quiesce(queue: VirtQueue): void {
    for (const chain of this.#failures.releaseOf(queue)) {
      this.#answer(chain, VIRTIO_BLK_S_IOERR, 1);
    }
  }

  /** What is held, or ends undone, stays in flight; flushes are for here alone. */
  suspend(queue: VirtQueue): void {
    this.#suspending = queue;
    for (const chain of this.#failures.releaseOf(queue)) this.#abandon(chain);
    for (const chain of this.#chains) {
      if (chain?.queue !== queue || isFlush(this.#phases[chain.slot])) continue;
      this.#storage.cancel?.(chain.slot);
    }
  }

  deactivate(): void {
    this.#storage.release();
  }

  reset(): void {
    this.#legacy = true;
    this.#cache.reset();
    this.#keep();
  }

  /**
   * Serves the commands `resize` (looks at the size of the image again and tells
   * the driver when it changed) and `resume` (tries requests again that failed and
   * are held, and takes new ones).
   *
   * @returns the new and the previous capacity in bytes; the number of requests
   * that were held
   * @throws {Error} for any other command
   */
  command(name: string): Record<string, unknown> {
    if (name === "resize") return this.#resize();
    if (name === "resume") return { resumed: this.#resume() };
    throw new Error(
      `Cannot do "${name}": a block device has the commands resize and resume`,
    );
  }

  #resize(): Record<string, unknown> {
    const previousCapacity = this.#capacity * SECTOR_SIZE;
    const capacity = this.#storage.refresh();
    if (capacity !== previousCapacity) {
      this.#describe();
      this.#context.configChanged();
      this.#context.log(
        capacity < previousCapacity ? "warn" : "info",
        `capacity changed from ${previousCapacity} to ${capacity} bytes`,
      );
    }
    return { capacity, previousCapacity };
  }

  #resume(): number {
    const { chains, queues } = this.#failures.release();
    for (const chain of chains) {
      // From the beginning: whatever the driver wrote since is judged again.
      const verdict = this.#start(chain);
      if (verdict !== REQUEST_OK) this.#refuse(chain, verdict);
    }
    for (const { queue } of chains) this.#context.resume(queue);
    for (const queue of queues) this.#context.resume(queue);
    return chains.length;
  }

  status(): Record<string, unknown> {
    return {
      capacity: this.#capacity * SECTOR_SIZE,
      blockSize: this.#blockSize,
      readOnly: this.#storage.readOnly,
      serial: this.#options.serial,
      segMax: this.#options.segMax,
      discard: this.#discards,
      writeZeroes: this.#options.writeZeroes && !this.#storage.readOnly,
      heldRequests: this.#failures.held,
      cache: this.#cache.mode,
      storage: this.#storage.status(),
      requests: this.metrics.toJSON(),
    };
  }

  close(): void {
    this.#storage.close();
    this.#table[Symbol.dispose]();
  }

  /** Starts a request, or says why not. */
  #start(chain: DescriptorChain): number {
    if (chain.slot >= this.#chains.length) {
      throw new Error(
        `Slot ${chain.slot} is beyond the ${this.#chains.length} of the device`,
      );
    }
    const request = this.#request;
    const verdict = request.readHeader(chain, this.#legacy);
    if (verdict !== OK) return verdict;
    switch (request.type) {
      case IN:
        return this.#startTransfer(chain, false);
      case OUT:
        return this.#startTransfer(chain, true);
      case VIRTIO_BLK_T_FLUSH:
        this.#enter(chain, FLUSHING);
        this.#storage.submit(chain.slot, STORAGE_FLUSH);
        return OK;
      case VIRTIO_BLK_T_GET_ID:
        this.#answerId(chain);
        return OK;
      case VIRTIO_BLK_T_DISCARD:
        return this.#startRanges(chain, true);
      case VIRTIO_BLK_T_WRITE_ZEROES:
        return this.#startRanges(chain, false);
      default:
        return REQUEST_UNSUPPORTED;
    }
  }

  #startTransfer(chain: DescriptorChain, writing: boolean): number {
    const request = this.#request, slot = chain.slot;
    if (writing && this.#storage.readOnly) return REQUEST_READ_ONLY;
    const length = writing
      ? chain.readableLength - HEADER
      : chain.writableLength - 1;
    const capacity = this.#capacity, blockSize = this.#blockSize;
    const verdict = request.judgeTransfer(length, capacity, blockSize);
    if (verdict !== OK) return verdict;
    const position = writing ? HEADER : 0;
    const table = this.#table, words = table.iovecs.words;
    const at = table.iovecs.wordOffset(slot), most = this.#mostIovecs;
    const count = chain.iovec(words, at, most, !writing, position, length);
    const segMax = this.#segMax;
    if (
      count < 0 || (count > segMax &&
        countBuffers(chain, !writing, position, length) > segMax)
    ) return REQUEST_TOO_MANY_SEGMENTS;
    this.#enter(chain, writing ? WRITE : READ);
    table.offsets[slot] = request.sector * SECTOR;
    table.lengths[slot] = length;
    table.counts[slot] = count;
    this.#storage.submit(slot, writing ? OP_WRITE : OP_READ);
    return OK;
  }

  #startRanges(chain: DescriptorChain, discard: boolean): number {
    if (this.#storage.readOnly) return REQUEST_READ_ONLY;
    if (!(discard ? this.#discards : this.#options.writeZeroes)) {
      return REQUEST_UNSUPPORTED;
    }
    const verdict = this.#request.judgeRanges(
      chain,
      discard,
      this.#capacity,
      this.#blockSize,
    );
    if (verdict !== REQUEST_OK) return verdict;
    this.#enter(chain, discard ? DISCARDING : ZEROING);
    this.#ranges.begin(chain.slot);
    this.#nextRange(chain);
    return REQUEST_OK;
  }

  /** Works on the next range that is not empty, or ends the request. */
  #nextRange(chain: DescriptorChain): void {
    if (chain.queue === this.#suspending) return this.#abandon(chain);
    const discard = this.#phases[chain.slot] === DISCARDING;
    const verdict = this.#ranges
      .next(chain, this.#request, discard, this.#capacity);
    if (verdict === REQUEST_OK) return;
    if (verdict !== RANGES_DONE) return this.#refuse(chain, verdict);
    if (discard) {
      this.metrics.discards++;
      this.#answer(chain, VIRTIO_BLK_S_OK, 1);
    } else {
      this.metrics.writeZeroes++;
      this.#written(chain);
    }
  }

  #answerId(chain: DescriptorChain): void {
    const room = Math.min(chain.writableLength - 1, DEVICE_ID_SIZE);
    const written = chain.write(0, this.#id, 0, room);
    this.metrics.getIds++;
    this.#answer(chain, VIRTIO_BLK_S_OK, written + 1);
  }

  #enter(chain: DescriptorChain, phase: number): void {
    this.#chains[chain.slot] = chain;
    this.#phases[chain.slot] = phase;
  }

  /** A storage operation ended. */
  #finished(slot: number, result: number): void {
    const chain = this.#chains[slot];
    if (chain === null) {
      throw new Error(`Slot ${slot} was completed without a request in it`);
    }
    if (result < 0) return this.#fail(chain, -result);
    const length = this.#table.lengths[slot];
    switch (this.#phases[slot]) {
      case READ:
        if (result !== length) return this.#fail(chain, Errno.EIO);
        this.metrics.reads++;
        this.metrics.bytesRead += length;
        return this.#answer(chain, STATUS_OK, length + 1);
      case WRITE:
        if (result !== length) return this.#fail(chain, Errno.EIO);
        this.metrics.writes++;
        this.metrics.bytesWritten += length;
        return this.#written(chain);
      case FLUSHING:
        this.metrics.flushes++;
        return this.#answer(chain, STATUS_OK, 1);
      case SYNCING:
        this.metrics.durableWrites++;
        return this.#answer(chain, STATUS_OK, 1);
      case DISCARDING:
        this.metrics.bytesDiscarded += length;
        return this.#nextRange(chain);
      default:
        this.metrics.bytesZeroed += length;
        return this.#nextRange(chain);
    }
  }

  /** The data of a request is written: answer it, durable where it must be. */
  #written(chain: DescriptorChain): void {
    if (!this.#cache.writethrough) return this.#answer(chain, STATUS_OK, 1);
    if (chain.queue === this.#suspending) return this.#abandon(chain);
    this.#phases[chain.slot] = SYNCING;
    this.#storage.submit(chain.slot, STORAGE_FLUSH);
  }

  #fail(chain: DescriptorChain, errno: number): void {
    const slot = chain.slot, phase = this.#phases[slot];
    const flushed = isFlush(phase);
    const leaves = chain.queue === this.#suspending;
    if (leaves && errno === Errno.ECANCELED) return this.#abandon(chain);
    this.metrics.fail(errno);
    this.#failures.failed(
      OPERATIONS[phase],
      errno,
      this.#table.offsets[slot],
      flushed ? 0 : this.#table.lengths[slot],
    );
    if (this.#options.onError === "stop" && !flushed) {
      return leaves ? this.#abandon(chain) : this.#failures.hold(chain);
    }
    this.#answer(chain, VIRTIO_BLK_S_IOERR, 1);
  }

  #refuse(chain: DescriptorChain, verdict: number): void {
    this.metrics.refuse(verdict);
    const written = verdict === REQUEST_NO_STATUS ? 0 : 1;
    this.#answer(chain, statusOf(verdict), written);
  }

  /** Hands a request back. */
  #answer(chain: DescriptorChain, status: number, written: number): void {
    if (written > 0) chain.writeUint8(chain.writableLength - 1, status);
    this.#chains[chain.slot] = null;
    this.metrics.completed++;
    chain.queue.complete(chain, written);
  }

  /** Leaves a request in flight that nobody works on any more. */
  #abandon(chain: DescriptorChain): void {
    this.#chains[chain.slot] = null;
    chain.queue.abandon(chain);
  }

  /** The driver believes in the mode, whatever becomes of this process. */
  #keep(): void {
    this.#context.keep?.({ writeback: this.#cache.writeback === 1 });
    this.#describe();
  }

  /** Fills the configuration space from what is true now. */
  #describe(): void {
    this.#capacity = Math.floor(this.#storage.capacity / SECTOR_SIZE);
    encodeConfig(
      describeConfig(this.#options, this.#storage, this.#cache.writeback),
      this.config,
    );
  }
}
