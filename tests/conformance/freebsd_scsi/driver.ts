/**
 * virtio_scsi(4), function by function.
 *
 * Theory of operation: the methods are those of
 * `sys/dev/virtio/scsi/virtio_scsi.c` under their names without the prefix
 * `vtscsi_`. A request has room for a command and for a task management
 * function; the response is preset to 0xFF. Four event buffers are on the event
 * queue before the driver says DRIVER_OK.
 *
 * What the driver takes for granted is checked where it would notice, and
 * lengths of used elements, which it ignores.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  featureMask,
  VIRTIO_F_INDIRECT_DESC,
} from "../../../virtqueue/constants.ts";
import { kassert, PAGE_SIZE } from "../freebsd/kernel.ts";
import { type KernelBuffer, SgList } from "../freebsd/memory.ts";
import type { VirtioChild, VirtioPci } from "../freebsd/virtio_pci.ts";
import { VIRTIO_MAX_INDIRECT, type Virtqueue } from "../freebsd/virtqueue.ts";

/** Feature bit of hot plugging. */
const HOTPLUG = 1;
/** `VTSCSI_FEATURES`. */
export const VTSCSI_FEATURES: bigint = featureMask(
  HOTPLUG,
  VIRTIO_F_INDIRECT_DESC,
);
/** `VTSCSI_MIN_SEGMENTS`: request and response. */
const MIN_SEGMENTS = 2;
/** `VTSCSI_NUM_EVENT_BUFS` and `sizeof(struct virtio_scsi_event)`. */
const EVENT_BUFFERS = 4, EVENT_SIZE = 16;
/** Sizes of `struct virtio_scsi_cmd_req`, `cmd_resp`, `ctrl_tmf_req`. */
const COMMAND_SIZE = 51, RESPONSE_SIZE = 108, TMF_SIZE = 24;
/** Where they lie in a request's memory, and `ctrl_tmf_resp`. */
const RESPONSE_AT = 64, TMF_AT = 176, TMF_RESPONSE_AT = 208;
const REQUEST_SIZE = 256;
/** Offsets in the configuration space. */
const SENSE_SIZE_AT = 20, CDB_SIZE_AT = 24;
/** `CAM_LUN_WILDCARD`, as much as a request shows of it. */
const LUN_WILDCARD = -1;
const TMF_ABORT_TASK = 0, TMF_NEXUS_RESET = 4, TMF_LUN_RESET = 5;

/** `vtscsi_scsi_cmd_cam_status`: by response. */
const CAM_STATUS: readonly string[] = [
  "CAM_REQ_CMP",
  "CAM_DATA_RUN_ERR",
  "CAM_REQ_ABORTED",
  "CAM_SEL_TIMEOUT",
  "CAM_SCSI_BUS_RESET",
  "CAM_SCSI_BUSY",
  "CAM_SCSI_IT_NEXUS_LOST",
  "CAM_SCSI_IT_NEXUS_LOST",
  "CAM_SCSI_IT_NEXUS_LOST",
];

/** A CCB of `XPT_SCSI_IO`. */
export interface ScsiIo {
  readonly target: number;
  readonly lun: number;
  readonly cdb: readonly number[];
  /** CAM_DIR_IN. */
  readonly dataIn?: KernelBuffer;
  /** CAM_DIR_OUT. */
  readonly dataOut?: KernelBuffer;
  /** MSG_ORDERED_Q_TAG. */
  readonly ordered?: boolean;
}

/** How a CCB ended. */
export interface CcbResult {
  /** Name of its CAM status. */
  readonly status: string;
  readonly scsiStatus: number;
  readonly resid: number;
  readonly sense: Uint8Array<ArrayBuffer>;
}

interface Request {
  readonly address: number;
  ccb: ScsiIo | null;
  /** Command identifier: the address of the CCB, in the original. */
  tag: number;
  result: CcbResult | null;
  /** Response to a task management function; -1: none yet. */
  response: number;
}

/** An event, as `vtscsi_handle_event` sees it. */
export interface DriverEvent {
  readonly event: number;
  readonly target: number;
  readonly lun: number;
  readonly reason: number;
}

/** `struct vtscsi_softc`: `vtscsi0`. */
export class Vtscsi implements VirtioChild {
  readonly name = "vtscsi0";
  readonly featureNames = { 0: "InOut", 1: "Hotplug" };
  /** `vtscsi_max_target`. */
  maxTarget = 0;
  /** `vtscsi_max_lun`. */
  maxLun = 0;
  /** `vtscsi_max_nsegs`. */
  maxSegments = 0;
  /** Events that arrived. */
  readonly events: DriverEvent[] = [];
  #bus!: VirtioPci;
  #control!: Virtqueue<Request>;
  #event!: Virtqueue<{ address: number }>;
  #request!: Virtqueue<Request>;
  #sglist!: SgList;
  readonly #eventBuffers: { address: number }[] = [];
  readonly #free: Request[] = [];
  #allocated = 0;
  #tags = 0;

  /** The request queue. */
  get queue(): Virtqueue<unknown> {
    return this.#request;
  }

  /** Largest transfer: `cpi->maxio`. */
  get maxIo(): number {
    return (this.maxSegments - MIN_SEGMENTS - 1) * PAGE_SIZE;
  }

  /** `vtscsi_attach`. */
  async attach(bus: VirtioPci): Promise<number> {
    this.#bus = bus;
    await bus.negotiateFeatures(VTSCSI_FEATURES);
    const error = await bus.finalizeFeatures();
    if (error !== 0) return error;
    kassert(bus.withFeature(HOTPLUG), "no hot plugging");
    const config = await this.#readConfig();
    assertEquals(config.eventInfoSize, EVENT_SIZE);
    this.maxTarget = config.maxTarget;
    this.maxLun = config.maxLun;
    await this.#writeDeviceConfig();
    this.maxSegments = this.#maximumSegments(config.segMax);
    this.#sglist = new SgList(this.maxSegments);
    const failed = await this.#allocVirtqueues();
    if (failed !== 0) return failed;
    this.#initEventQueue();
    // vtscsi_alloc_requests: an indirect command needs one descriptor.
    const count = this.#request.size + this.#control.size / 2;
    for (let i = 0; i < count; i++) {
      const address = bus.memory.malloc(REQUEST_SIZE);
      this.#free.push({
        address,
        ccb: null,
        tag: 0,
        result: null,
        response: 0,
      });
    }
    this.#allocated = count;
    await bus.setupIntr();
    for (const queue of [this.#control, this.#event, this.#request]) {
      queue.enableIntr();
    }
    return 0;
  }

  /** `vtscsi_detach`. */
  async detach(): Promise<void> {
    if (this.#bus.attached) {
      for (const queue of [this.#control, this.#event, this.#request]) {
        queue.disableIntr();
      }
      await this.#bus.stop();
    }
    this.#completeVq(this.#request);
    this.#completeVq(this.#control);
    kassert(this.#request.empty, "a command never came back");
    kassert(this.#control.empty, "a control request never came back");
    const drained = this.#event.drain().length;
    kassert(drained === EVENT_BUFFERS, `${drained} event buffers were drained`);
    const leaked = this.#allocated - this.#free.length;
    kassert(leaked === 0, `leaked ${leaked} requests`);
    for (const { address } of this.#free.splice(0)) {
      this.#bus.memory.mfree(address, REQUEST_SIZE);
    }
    for (const { address } of this.#eventBuffers.splice(0)) {
      this.#bus.memory.mfree(address, EVENT_SIZE);
    }
  }

  /** `vtscsi_cam_scsi_io`, for several CCBs; waits for all of them. */
  async scsiIo(...ccbs: readonly ScsiIo[]): Promise<CcbResult[]> {
    const requests = ccbs.map((ccb) => this.start(ccb));
    return await this.finish(requests);
  }

  /** Waits for commands. */
  async finish(requests: readonly Request[]): Promise<CcbResult[]> {
    await this.#bus.sleep(
      this.#request,
      () => requests.every(({ result }) => result !== null),
      `${requests.length} commands`,
    );
    return requests.map((request) => {
      this.#free.push(request);
      return request.result!;
    });
  }

  /** `vtscsi_start_scsi_cmd` and `vtscsi_execute_scsi_cmd`. */
  start(ccb: ScsiIo): Request {
    const request = this.#free.pop();
    kassert(request !== undefined, "no free request");
    request!.ccb = ccb;
    request!.result = null;
    request!.tag = ++this.#tags;
    const { ram } = this.#bus.memory;
    const { address } = request!;
    // vtscsi_init_scsi_cmd_req: what is behind the CDB is left as it is.
    const command = ram.bytes(address, COMMAND_SIZE);
    command.set(requestLun(ccb.target, ccb.lun));
    new DataView(command.buffer, command.byteOffset)
      .setUint32(8, request!.tag, true);
    command[16] = ccb.ordered ? 1 : 0;
    command.set(ccb.cdb, 19);
    const response = ram.bytes(address + RESPONSE_AT, RESPONSE_SIZE);
    response.fill(0xff);
    // vtscsi_fill_scsi_cmd_sglist.
    const sg = this.#sglist;
    sg.reset();
    sg.append(address, COMMAND_SIZE);
    if (ccb.dataOut !== undefined) this.#appendBuffer(sg, ccb.dataOut);
    const readable = sg.count;
    sg.append(address + RESPONSE_AT, RESPONSE_SIZE);
    if (ccb.dataIn !== undefined) this.#appendBuffer(sg, ccb.dataIn);
    const error = this.#request
      .enqueue(request!, sg, readable, sg.count - readable);
    kassert(error === 0, `virtqueue_enqueue: ${error}`);
    this.#request.notify();
    return request!;
  }

  /** `vtscsi_abort_timedout_scsi_cmd`: the response to ABORT TASK. */
  async abort(request: Request): Promise<number> {
    const { target, lun } = request.ccb!;
    return await this.#manage(TMF_ABORT_TASK, target, lun, request.tag);
  }

  /** `vtscsi_execute_reset_dev_cmd`. */
  async resetDevice(
    target: number,
    lun: number = LUN_WILDCARD,
  ): Promise<number> {
    const subtype = lun === LUN_WILDCARD ? TMF_NEXUS_RESET : TMF_LUN_RESET;
    return await this.#manage(subtype, target, lun, 0);
  }

  /** Waits for `count` events, since the driver attached. */
  async waitEvents(count: number): Promise<void> {
    await this.#bus.sleep(
      this.#event,
      () => this.events.length >= count,
      `event ${count}`,
    );
  }

  /** `vtscsi_execute_ctrl_req`; waits for the answer. */
  async #manage(
    subtype: number,
    target: number,
    lun: number,
    tag: number,
  ): Promise<number> {
    const request = this.#free.pop()!;
    const { ram } = this.#bus.memory;
    const bytes = ram.bytes(request.address + TMF_AT, TMF_SIZE).fill(0);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    view.setUint32(4, subtype, true);
    bytes.set(requestLun(target, lun), 8);
    view.setUint32(16, tag, true);
    ram.bytes(request.address + TMF_RESPONSE_AT, 1).fill(0xff);
    request.ccb = null;
    request.response = -1;
    const sg = this.#sglist;
    sg.reset();
    sg.append(request.address + TMF_AT, TMF_SIZE);
    sg.append(request.address + TMF_RESPONSE_AT, 1);
    kassert(this.#control.enqueue(request, sg, 1, 1) === 0, "no room");
    this.#control.notify();
    await this.#bus.sleep(
      this.#control,
      () => request.response !== -1,
      "a task management function",
    );
    this.#free.push(request);
    return request.response;
  }

  async #readConfig(): Promise<
    { segMax: number; eventInfoSize: number; maxTarget: number; maxLun: number }
  > {
    const field = async (offset: number, length: number) => {
      const bytes = await this.#bus.readConfig(offset, length);
      return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
    };
    await field(0, 4);
    const segMax = await field(4, 4);
    await field(8, 4);
    await field(12, 4);
    const eventInfoSize = await field(16, 4);
    await field(20, 4);
    await field(24, 4);
    await field(28, 2);
    const maxTarget = await field(30, 2);
    return { segMax, eventInfoSize, maxTarget, maxLun: await field(32, 4) };
  }

  /** `vtscsi_write_device_config`. */
  async #writeDeviceConfig(): Promise<void> {
    await this.#bus.writeConfig4(SENSE_SIZE_AT, 96);
    await this.#bus.writeConfig4(CDB_SIZE_AT, 32);
  }

  /** `vtscsi_maximum_segments`. */
  #maximumSegments(segMax: number): number {
    const { maxphys } = this.#bus.release;
    if (segMax === 0) return MIN_SEGMENTS + 1;
    const count = MIN_SEGMENTS + Math.min(segMax, maxphys / PAGE_SIZE + 1);
    return this.#bus.withFeature(VIRTIO_F_INDIRECT_DESC)
      ? Math.min(count, VIRTIO_MAX_INDIRECT)
      : count;
  }

  /** `vtscsi_alloc_virtqueues`. */
  async #allocVirtqueues(): Promise<number> {
    const queues = await this.#bus.allocVirtqueues<unknown>([
      {
        name: `${this.name} control`,
        maxIndirect: 0,
        interrupt: () => this.#interrupt(this.#control),
      },
      {
        name: `${this.name} event`,
        maxIndirect: 0,
        interrupt: () => this.#eventInterrupt(),
      },
      {
        name: `${this.name} request`,
        maxIndirect: this.maxSegments,
        interrupt: () => this.#interrupt(this.#request),
      },
    ]);
    if (typeof queues === "number") return queues;
    this.#control = queues[0] as Virtqueue<Request>;
    this.#event = queues[1] as Virtqueue<{ address: number }>;
    this.#request = queues[2] as Virtqueue<Request>;
    return 0;
  }

  /** `vtscsi_init_event_vq`. */
  #initEventQueue(): void {
    for (let i = 0; i < EVENT_BUFFERS; i++) {
      const event = { address: this.#bus.memory.malloc(EVENT_SIZE) };
      this.#eventBuffers.push(event);
      this.#enqueueEvent(event);
    }
  }

  /** `vtscsi_enqueue_event_buf`. */
  #enqueueEvent(event: { address: number }): void {
    this.#bus.memory.ram.bytes(event.address, EVENT_SIZE).fill(0);
    const sg = new SgList(1);
    sg.append(event.address, EVENT_SIZE);
    kassert(this.#event.enqueue(event, sg, 0, 1) === 0, "no event buffer");
    this.#event.notify();
  }

  /** `vtscsi_request_vq_intr` and `vtscsi_control_vq_intr`. */
  #interrupt(queue: Virtqueue<Request>): void {
    do this.#completeVq(queue); while (queue.enableIntr());
  }

  /** `vtscsi_event_vq_intr` and `vtscsi_handle_event`. */
  #eventInterrupt(): void {
    do {
      for (let back = this.#event.dequeue(); back !== null;) {
        const { cookie, length } = back;
        assertEquals(length, EVENT_SIZE, "used length of an event");
        const bytes = this.#bus.memory.ram.bytes(cookie.address, EVENT_SIZE);
        const view = new DataView(bytes.buffer, bytes.byteOffset);
        this.events.push({
          event: view.getUint32(0, true),
          target: bytes[5],
          lun: bytes[6] << 8 | bytes[7],
          reason: view.getUint32(12, true),
        });
        this.#enqueueEvent(cookie);
        back = this.#event.dequeue();
      }
    } while (this.#event.enableIntr());
  }

  /** `vtscsi_complete_vq`. */
  #completeVq(queue: Virtqueue<Request>): void {
    for (let back = queue.dequeue(); back !== null; back = queue.dequeue()) {
      const { cookie, length } = back;
      if (cookie.ccb === null) {
        assertEquals(length, 1, "used length of a task management function");
        const at = cookie.address + TMF_RESPONSE_AT;
        cookie.response = this.#bus.memory.ram.bytes(at, 1)[0];
      } else this.#complete(cookie, cookie.ccb, length);
    }
  }

  /** `vtscsi_complete_scsi_cmd`. */
  #complete(request: Request, ccb: ScsiIo, length: number): void {
    const bytes = this.#bus.memory.ram
      .bytes(request.address + RESPONSE_AT, RESPONSE_SIZE);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const response = bytes[11];
    assert(response !== 0xff, "the response was not written");
    assert(request.result === null, "a command came back twice");
    const resid = view.getUint32(4, true);
    const data = ccb.dataIn?.length ?? 0;
    const moved = ccb.dataIn === undefined ? 0 : data - resid;
    assertEquals(length, RESPONSE_SIZE + moved, "used length of a command");
    const status = response === 0 && bytes[10] !== 0
      ? "CAM_SCSI_STATUS_ERROR"
      : CAM_STATUS[response] ?? "CAM_REQ_CMP_ERR";
    request.result = {
      status,
      scsiStatus: bytes[10],
      resid,
      sense: bytes.slice(12, 12 + view.getUint32(0, true)),
    };
  }

  /** `vtscsi_sg_append_scsi_buf`. */
  #appendBuffer(sg: SgList, buffer: KernelBuffer): void {
    for (const { address, length } of buffer.ranges()) {
      kassert(sg.append(address, length), "CAM_REQ_TOO_BIG");
    }
  }
}

/** `vtscsi_set_request_lun`: flat addressing, always. */
function requestLun(target: number, lun: number): number[] {
  return [1, target, 0x40 | lun >> 8 & 0x3f, lun & 0xff, 0, 0, 0, 0];
}
