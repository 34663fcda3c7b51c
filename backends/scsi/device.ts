/**
 * The virtio SCSI host.
 *
 * Theory of operation. A chain of a request queue becomes a
 * {@linkcode ScsiRequest}, one object for each slot, and is handed to the
 * logical unit that its LUN field names; the target does the rest, and tells of
 * the end, at once or later, when the chain is answered. What names no target is
 * answered here.
 *
 * Task management must come after the commands that it is about, on its way here
 * and on its way back: see {@linkcode ControlQueue}.
 *
 * A command may end because another one did, of another queue or another host
 * host even; then nobody serves its queue, and the loop is asked to.
 *
 * READ and WRITE allocate nothing.
 *
 * Source: virtio 1.4, section 5.6.
 *
 * @module
 */

import { IoTable } from "../../sys/io_table.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import type { DescriptorChain } from "../../virtqueue/chain.ts";
import { featureMask } from "../../virtqueue/constants.ts";
import type {
  DeviceContext,
  VirtioDevice,
  VirtQueue,
} from "../../virtqueue/device.ts";
import { LogicalUnits, type Lun } from "./logical_units.ts";
import { type ControlHost, serveControl } from "./control.ts";
import { ControlQueue } from "./control_queue.ts";
import { EventQueue } from "./events.ts";
import { type ManagedHost, Management } from "./management.ts";
import { ScsiMetrics } from "./metrics.ts";
import type { ResolvedLun, ResolvedScsiOptions } from "./options.ts";
import {
  CONFIG_CDB_SIZE,
  CONFIG_SENSE_SIZE,
  CONFIG_SIZE,
  CONTROL_QUEUE,
  DEFAULT_CDB_SIZE,
  DEFAULT_SENSE_SIZE,
  encodeConfig,
  EVENT_QUEUE,
  FIRST_REQUEST_QUEUE,
  MAX_CDB_SIZE,
  MAX_SENSE_SIZE,
  Response,
  RESPONSE_HEAD_SIZE,
  VIRTIO_ID_SCSI,
  VIRTIO_SCSI_F_CHANGE,
  VIRTIO_SCSI_F_HOTPLUG,
} from "./protocol.ts";
import { type RequestHost, ScsiRequest } from "./request.ts";
import { type Bus, decodeLun, MAX_LUN, MAX_TARGET } from "./target/bus.ts";
import { mustNotReplay } from "./target/commands.ts";
import { MAX_TRANSFER_BYTES } from "./target/limits.ts";
import type { Nexus } from "./target/nexus.ts";
import { storageFinished } from "./target/sbc_transfer.ts";
import { PausedTasks } from "./target/script.ts";

/** Descriptors beyond the data's: request and response in pieces. */
const FRAMING_DESCRIPTORS = 64;
/** Buffers of a request that may cross from one memory region into the next. */
const REGION_CROSSINGS = 16;
/** Commands that a driver may queue for a logical unit. */
const COMMANDS_PER_LUN = 128;
const SECTOR_SIZE = 512;

/** What a driver has set, and believes to be there when a process has died. */
interface Kept {
  readonly cdbSize: number;
  readonly senseSize: number;
  /** Mode parameters, where they are not the default ones. */
  readonly modes: readonly {
    readonly target: number;
    readonly lun: number;
    readonly pages: readonly string[];
  }[];
}

/** A virtio SCSI host. */
export class ScsiDevice implements VirtioDevice, RequestHost, ControlHost {
  readonly deviceId: number = VIRTIO_ID_SCSI;
  readonly features: bigint = featureMask(
    VIRTIO_SCSI_F_HOTPLUG,
    VIRTIO_SCSI_F_CHANGE,
  );
  readonly queueCount: number;
  readonly maxSegments: number;
  readonly config: Uint8Array<ArrayBuffer> = new Uint8Array(CONFIG_SIZE);
  /** What was counted since the device was made. */
  readonly metrics: ScsiMetrics = new ScsiMetrics();
  readonly subscriptions: Map<Nexus, number> = new Map();
  cdbSize: number = DEFAULT_CDB_SIZE;
  senseSize: number = DEFAULT_SENSE_SIZE;
  readonly #options: ResolvedScsiOptions;
  readonly #context: DeviceContext;
  readonly #table: IoTable;
  readonly #units: LogicalUnits;
  readonly #events: EventQueue;
  readonly #management: Management;
  readonly #requests: (ScsiRequest | null)[];
  readonly #control: ControlQueue;
  readonly #paused = new PausedTasks();
  /** True while the loop is going to publish what ends. */
  #serving = false;
  /** True while queues stop: other hosts' commands may be waited for. */
  #stopping = false;

  /**
   * Makes a SCSI host with its logical units.
   *
   * @throws {StorageError} when an image cannot be served
   * @throws {ScsiLunError} when a logical unit cannot be as it is wanted
   */
  constructor(options: ResolvedScsiOptions, context: DeviceContext) {
    this.#options = options;
    this.#context = context;
    this.queueCount = FIRST_REQUEST_QUEUE + options.queues;
    this.maxSegments = options.segMax + FRAMING_DESCRIPTORS;
    const slots = context.slotsPerQueue * this.queueCount;
    this.#table = new IoTable(slots, options.segMax + REGION_CROSSINGS);
    this.#requests = new Array(slots).fill(null);
    this.#control = new ControlQueue(context, this.queueCount, {
      ended: () => this.metrics.completed,
      begin: (chain) => this.#start(chain),
      control: (chain) => serveControl(this, chain),
    });
    this.#events = new EventQueue(context, this.metrics);
    try {
      this.#units = new LogicalUnits(
        options.initiator,
        this.#table,
        () => {
          const ring = context.ring();
          return ring instanceof IoUring ? ring : null;
        },
        (slot, result) => storageFinished(this.#requests[slot]!, result),
        (path) => context.waitsFor?.(`"${path}" to open`),
        (message) => context.log("info", message),
      );
    } catch (error) {
      this.#table[Symbol.dispose]();
      throw error;
    }
    const host: ManagedHost = {
      subscriptions: this.subscriptions,
      add: (lun) => this.#add(lun),
      status: () => this.status(),
      log: (message) => context.log("info", message),
    };
    this.#management = new Management(host, this.#units, this.#events);
    try {
      for (const lun of options.luns) this.#add(lun);
    } catch (error) {
      this.close();
      throw error;
    }
    this.#restore(context.kept as Partial<Kept> | null | undefined);
    this.#describe();
  }

  get bus(): Bus {
    return this.#units.bus;
  }

  writeConfig(offset: number, data: Uint8Array): void {
    const bytes = this.config.slice();
    bytes.set(data.subarray(0, Math.max(bytes.length - offset, 0)), offset);
    const view = new DataView(bytes.buffer);
    const senseSize = view.getUint32(CONFIG_SENSE_SIZE, true);
    const cdbSize = view.getUint32(CONFIG_CDB_SIZE, true);
    if (senseSize <= MAX_SENSE_SIZE) this.senseSize = senseSize;
    if (cdbSize > 0 && cdbSize <= MAX_CDB_SIZE) this.cdbSize = cdbSize;
    this.#keep();
    this.#describe();
  }

  negotiate(features: bigint): void {
    this.#management.features = features;
  }

  activate(): void {
    this.#stopping = false;
    this.#control.activate();
    try {
      this.#units.activate();
    } catch (error) {
      this.#control.deactivate();
      throw error;
    }
  }

  start(queue: VirtQueue): void {
    if (queue.index !== EVENT_QUEUE) this.#control.start(queue);
  }

  serve(queue: VirtQueue, budget: number): boolean {
    if (queue.index === EVENT_QUEUE) return this.#events.serve(queue);
    this.#stopping = false;
    this.#serving = true;
    let goesOn = true;
    if (queue.index === CONTROL_QUEUE) {
      goesOn = this.#control.serve(queue, budget);
    } else this.#serveRequests(queue, budget);
    this.#serving = false;
    return goesOn;
  }

  #serveRequests(queue: VirtQueue, budget: number): void {
    let taken = 0, chain: DescriptorChain | null;
    for (; taken < budget && (chain = queue.take()) !== null; taken++) {
      this.#start(chain);
    }
    this.#control.taken[queue.index] += taken;
  }

  poll(): number {
    const before = this.metrics.completed;
    this.#serving = true;
    const { storages } = this.#units;
    for (let i = 0; i < storages.length; i++) storages[i].poll();
    const steps = this.#paused.goOn();
    if (this.#stopping) this.#pollOthers();
    const answers = this.#control.poll();
    this.#serving = false;
    return this.metrics.completed - before + steps + answers;
  }

  quiesce(queue: VirtQueue): void {
    this.#stopping = true;
    if (queue.index === EVENT_QUEUE) this.#events.stop();
    else this.#control.quiesce(queue);
  }

  deactivate(): void {
    this.#control.deactivate();
    this.#units.deactivate();
  }

  reset(): void {
    this.#management.features = 0n;
    this.cdbSize = DEFAULT_CDB_SIZE;
    this.senseSize = DEFAULT_SENSE_SIZE;
    this.subscriptions.clear();
    this.#events.reset();
    this.#units.reset();
    this.#keep();
    this.#describe();
  }

  /** See {@linkcode Management.command}. */
  command(
    name: string,
    parameters: Readonly<Record<string, unknown>>,
  ): unknown | Promise<unknown> {
    return this.#management.command(name, parameters);
  }

  status(): Record<string, unknown> {
    return {
      initiator: this.bus.initiator.name,
      queues: this.#options.queues,
      segMax: this.#options.segMax,
      senseSize: this.senseSize,
      cdbSize: this.cdbSize,
      luns: this.#units.status(),
      requests: this.metrics.toJSON(),
    };
  }

  close(): void {
    this.#control.deactivate();
    this.#units.close();
    this.#table[Symbol.dispose]();
  }

  /** A command has ended: answers its chain. */
  ended(request: ScsiRequest): void {
    const { response } = request;
    this.metrics.count(request.cdb[0], request.status, response);
    this.metrics.bytes += request.transferred;
    this.#answer(request, response);
  }

  /** Answers a chain of the control queue. */
  answer(chain: DescriptorChain, bytes: Uint8Array): void {
    this.metrics.controls++;
    this.#control.answer(chain, bytes);
  }

  /** Hands a chain back that cannot be answered. */
  refuse(chain: DescriptorChain): void {
    this.metrics.malformed++;
    this.answer(chain, new Uint8Array());
  }

  #complete(chain: DescriptorChain, written: number): void {
    const { queue } = chain;
    queue.complete(chain, written);
    if (!this.#serving) this.#context.resume(queue);
  }

  #start(chain: DescriptorChain): void {
    const { slot } = chain;
    const request = this.#requests[slot] ??= new ScsiRequest(slot, this);
    if (!request.read(chain)) return this.#refuseRequest(request);
    const nexus = this.#find(request);
    if (nexus !== null) {
      return chain.resubmitted && mustNotReplay(request.cdb)
        ? request.disown(nexus)
        : request.begin(nexus);
    }
    request.transferred = 0;
    this.metrics.count(request.cdb[0], 0, Response.BAD_TARGET);
    this.#answer(request, Response.BAD_TARGET);
  }

  /** What the eight bytes of a LUN field name, or `null`. */
  #find(request: ScsiRequest): Nexus | null {
    const { bus } = this;
    const first = request.lunByte(0), second = request.lunByte(1);
    if (first === 1) {
      const target = bus.target(second);
      if (target === null) return null;
      const lun = decodeLun(request.lunByte(2), request.lunByte(3));
      request.lun = lun;
      return bus.find(target, lun);
    }
    request.lun = 0;
    return first === 0xc1 && second === 1 ? bus.wellKnown : null;
  }

  #answer(request: ScsiRequest, response: number): void {
    const { chain } = request;
    const written = request.answer(response);
    request.release();
    this.#complete(chain, written);
  }

  /** A request that is too short or too long: says so where that is possible. */
  #refuseRequest(request: ScsiRequest): void {
    const { chain } = request;
    this.metrics.malformed++;
    this.metrics.completed++;
    const size = RESPONSE_HEAD_SIZE + this.senseSize;
    let written = 0;
    if (chain.writableLength >= size && chain.writeUint32(8, 0)) {
      chain.writeUint32(0, 0);
      chain.writeUint32(4, 0);
      chain.writeUint8(11, Response.FAILURE);
      written = size;
    }
    request.release();
    this.#complete(chain, written);
  }

  /** Commands that wait for other hosts' end with those. */
  #pollOthers(): void {
    for (const { nexus } of this.#units.luns) {
      for (const other of nexus.unit.nexuses) other.storage?.poll();
    }
  }

  #add(options: ResolvedLun): Lun {
    const added = this.#units.add(options);
    added.nexus.notify = (asc) => this.#management.changed(added, asc);
    added.nexus.keepModes = (done) => this.#keep(done);
    added.nexus.pause = this.#paused.add;
    return added;
  }

  #keep(done: () => void = () => {}): void {
    const { cdbSize, senseSize } = this;
    const modes = this.#units.luns.flatMap(({ target, lun, nexus }) => {
      const pages = nexus.unit.mode.changed;
      return pages === null ? [] : [{ target, lun, pages }];
    });
    const kept: Kept = { cdbSize, senseSize, modes };
    if (this.#context.keep === undefined) done();
    else this.#context.keep(kept, done);
  }

  #restore(kept: Partial<Kept> | null | undefined): void {
    this.cdbSize = kept?.cdbSize ?? DEFAULT_CDB_SIZE;
    this.senseSize = kept?.senseSize ?? DEFAULT_SENSE_SIZE;
    for (const { target, lun, pages } of kept?.modes ?? []) {
      const found = this.#units.luns
        .find((one) => one.target === target && one.lun === lun);
      found?.nexus.unit.mode.restore(pages);
    }
  }

  #describe(): void {
    encodeConfig({
      numQueues: this.#options.queues,
      segMax: this.#options.segMax,
      maxSectors: MAX_TRANSFER_BYTES / SECTOR_SIZE,
      cmdPerLun: COMMANDS_PER_LUN,
      senseSize: this.senseSize,
      cdbSize: this.cdbSize,
      maxTarget: MAX_TARGET,
      maxLun: MAX_LUN,
    }, this.config);
  }
}
