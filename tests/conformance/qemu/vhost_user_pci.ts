/**
 * QEMU's part of the conversation: what a guest's accesses to a virtio-pci
 * device with a vhost-user back-end turn into.
 *
 * Theory of operation: the guest reads and writes registers; QEMU answers most
 * of them from its own copies and tells the back-end only when the device
 * starts (DRIVER_OK, or the first notification of a legacy driver), stops, is
 * reset, or when a driver-writable byte of the configuration space changes. The
 * orders are those of QEMU 10 and 11, traced; functions that a method stands
 * for are named.
 *
 * Sources: `hw/virtio/virtio-pci.c`, `hw/virtio/virtio.c`, `hw/virtio/vhost.c`,
 * `hw/virtio/vhost-user.c`, and the file of the device.
 *
 * @module
 */

import {
  ProtocolFeature,
  VHOST_USER_F_PROTOCOL_FEATURES,
} from "../../../vhost/constants.ts";
import type {
  FrontEnd,
  RingLayout,
  SharedRegion,
} from "../../../vhost/testing/front_end.ts";
import {
  featureMask,
  hasFeature,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
  VIRTIO_STATUS_ACKNOWLEDGE,
  VIRTIO_STATUS_DRIVER,
  VIRTIO_STATUS_DRIVER_OK,
  VIRTIO_STATUS_FEATURES_OK,
} from "../../../virtqueue/constants.ts";
import type {
  Conversation,
  StartReason,
  VirtioPciDevice,
} from "../freebsd/device.ts";

/** Legacy: a driver that acknowledges it acknowledges everything. */
export const VIRTIO_F_BAD_FEATURE = 30;

/** `VIRTIO_LEGACY_FEATURES`: what the modern interface hides. */
export const LEGACY_FEATURES: bigint = featureMask(
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_BAD_FEATURE,
);
/** `DEFINE_VIRTIO_COMMON_FEATURES`: what QEMU offers for every device. */
export const COMMON_FEATURES: bigint = featureMask(
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_RING_RESET,
);
/** Of those, the ones that a back-end decides about, for every device. */
export const COMMON_BACKEND_BITS: bigint = featureMask(
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
);
const LEGACY_PAGE_SHIFT = 12;
const LEGACY_ALIGNMENT = 4096;

/** Where a legacy driver has put a ring (`virtio_queue_set_addr`). */
export function legacyLayout(pfn: number, size: number): RingLayout {
  const descriptorTable = pfn * 2 ** LEGACY_PAGE_SHIFT;
  const availableRing = descriptorTable + 16 * size;
  const usedRing =
    Math.ceil((availableRing + 4 + 2 * size) / LEGACY_ALIGNMENT) *
    LEGACY_ALIGNMENT;
  return { size, descriptorTable, availableRing, usedRing };
}

/** What differs between QEMU's vhost-user devices. */
export interface VhostUserModel {
  /** QEMU's name of it. */
  readonly name: string;
  /** Number of queues that it was told to have. */
  readonly queues: number;
  /** Ring size that it shows to the driver. */
  readonly queueSize: number;
  /** Bytes of configuration space that it reads from the back-end; 0: none. */
  readonly configSize: number;
  /** Device features that it offers where the back-end has them, too. */
  readonly features: bigint;
  /** `user_feature_bits` beyond the common ones. */
  readonly backendBits: bigint;
  /**
   * The device is silent about resets: it sends no RESET_DEVICE, and no status
   * when it stops.
   */
  readonly silent?: boolean;
  /**
   * The configuration space that QEMU makes itself; such a device negotiates no
   * CONFIG. Without it, the back-end's is read.
   */
  readonly ownConfig?: Uint8Array;
  /** The back-end is never told DRIVER_OK. */
  readonly neverDriverOk?: boolean;
  /**
   * The device's `vhost_dev_config_notifier`: takes over what a changed
   * configuration says.
   *
   * @returns whether the guest is told
   */
  configChanged?(own: Uint8Array, changed: Uint8Array): boolean;
  /**
   * The device's `set_config`: which bytes of a write go to the back-end.
   *
   * @returns offset and length, or `null`
   */
  configWritten?(
    before: Uint8Array,
    after: Uint8Array,
  ): { offset: number; length: number } | null;
}

/** A vhost-user device behind virtio-pci. */
export class VhostUserPci implements VirtioPciDevice, Conversation {
  /** The connection. */
  readonly frontEnd: FrontEnd;
  /** `vdev->host_features`. */
  readonly hostFeatures: bigint;
  /** Reasons for which the device started, oldest first. */
  readonly starts: StartReason[] = [];
  /** `VHOST_USER_RESET_DEVICE` that were sent. */
  resets = 0;
  readonly #model: VhostUserModel;
  readonly #modern: boolean;
  readonly #regions: readonly SharedRegion[];
  readonly #config: Uint8Array;
  readonly #layouts = new Map<number, RingLayout>();
  readonly #positions = new Map<number, number>();
  readonly #stoppedAt = new Map<number, number>();
  #guestFeatures = 0n;
  #startOnKick = false;
  #status = 0;
  #started = false;
  #memorySent = false;
  #vmRunning = true;

  private constructor(
    frontEnd: FrontEnd,
    model: VhostUserModel,
    modern: boolean,
    regions: readonly SharedRegion[],
    config: Uint8Array,
    backendFeatures: bigint,
  ) {
    this.frontEnd = frontEnd;
    this.#model = model;
    this.#modern = modern;
    this.#regions = regions;
    this.#config = config;
    // virtio_pci_pre_plugged, then get_features of the device.
    const offered = COMMON_FEATURES | model.features |
      featureMask(VIRTIO_F_VERSION_1, VIRTIO_F_BAD_FEATURE);
    this.hostFeatures = offered &
      ~((COMMON_BACKEND_BITS | model.backendBits) & ~backendFeatures);
  }

  /**
   * Realizes the device: `vhost_dev_init` and what the device does after it,
   * then the reset of the machine.
   *
   * @param modern the guest uses the modern interface
   */
  static async realize(
    frontEnd: FrontEnd,
    model: VhostUserModel,
    modern: boolean,
    regions: readonly SharedRegion[],
  ): Promise<VhostUserPci> {
    frontEnd.acks = false;
    const features = await frontEnd.getFeatures();
    const protocol = await frontEnd.getProtocolFeatures();
    await frontEnd.setProtocolFeatures(
      model.ownConfig === undefined
        ? protocol
        : protocol & ~featureMask(ProtocolFeature.CONFIG),
    );
    await frontEnd.getQueueNum();
    await frontEnd.getMaxMemSlots();
    frontEnd.acks = true;
    await frontEnd.setBackendReqFd();
    frontEnd.acks = false;
    await frontEnd.setOwner();
    const again = await frontEnd.getFeatures();
    if (again !== features) throw new Error("The back-end's features changed");
    for (let i = 0; i < model.queues; i++) {
      await frontEnd.setVringCall(i);
      await frontEnd.setVringErr(i);
    }
    const config = model.ownConfig !== undefined
      ? model.ownConfig.slice()
      : model.configSize > 0
      ? (await frontEnd.getConfig(0, model.configSize)).slice()
      : new Uint8Array(0);
    if (config.length !== model.configSize) {
      throw new Error("The back-end refused to show its configuration space");
    }
    const device = new VhostUserPci(
      frontEnd,
      model,
      modern,
      regions,
      config,
      features,
    );
    await device.machineReset();
    return device;
  }

  get conversation(): Conversation {
    return this;
  }

  readStatus(): Promise<number> {
    return Promise.resolve(this.#status);
  }

  queueSize(index: number): Promise<number> {
    const { queues, queueSize } = this.#model;
    return Promise.resolve(index < queues ? queueSize : 0);
  }

  queueCount(): Promise<number> {
    return Promise.resolve(this.#model.queues);
  }

  /** What `GET_VRING_BASE` answered last, resets notwithstanding. */
  stoppedAt(index: number): number | undefined {
    return this.#stoppedAt.get(index);
  }

  readFeatures(): Promise<bigint> {
    return Promise.resolve(
      this.#modern
        ? this.hostFeatures & ~LEGACY_FEATURES
        : this.hostFeatures & 0xffff_ffffn,
    );
  }

  /** `virtio_set_features`. */
  writeFeatures(features: bigint): Promise<void> {
    if (hasFeature(features, VIRTIO_F_BAD_FEATURE)) {
      throw new Error("The driver acknowledged BAD_FEATURE");
    }
    this.#guestFeatures = features & this.hostFeatures;
    this.#startOnKick = !hasFeature(this.#guestFeatures, VIRTIO_F_VERSION_1);
    return Promise.resolve();
  }

  /**
   * Legacy queue address register (`virtio_queue_set_addr`); 0 resets the
   * device, as `virtio_ioport_write` does.
   */
  async writeQueuePfn(index: number, pfn: number): Promise<void> {
    if (pfn === 0) return await this.#reset();
    this.#layouts.set(index, legacyLayout(pfn, this.#model.queueSize));
  }

  /** Modern queue registers, when `queue_enable` is written. */
  enableQueue(index: number, layout: RingLayout): Promise<void> {
    this.#layouts.set(index, layout);
    return Promise.resolve();
  }

  /** Device status register: `virtio_set_status`, and the reset that 0 is. */
  async writeStatus(status: number): Promise<void> {
    this.#status = status;
    await this.#follow("driver-ok");
    if (status === 0) await this.#reset();
  }

  /** Queue notify register. */
  async notify(index: number): Promise<void> {
    if (this.#started) return this.frontEnd.kick(index);
    // The device's handle_output.
    if (!this.#startOnKick || !this.#vmRunning) return;
    await this.#start("kick");
    for (const configured of this.#layouts.keys()) {
      this.frontEnd.kick(configured);
    }
  }

  /** Device configuration space, from QEMU's copy. */
  readConfig(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length).fill(0xff);
    bytes.set(this.#config.subarray(offset, offset + length));
    return Promise.resolve(bytes);
  }

  /** `virtio_config_writeb` and `writel`, and the device's `set_config`. */
  async writeConfig(
    offset: number,
    value: number,
    length: 1 | 4 = 1,
  ): Promise<void> {
    const before = this.#config.slice();
    for (let i = 0; i < length; i++) {
      this.#config[offset + i] = value >>> (8 * i);
    }
    const part = this.#model.configWritten?.(before, this.#config) ?? null;
    if (part === null) return;
    const { offset: at, length: size } = part;
    await this.#acknowledged(() =>
      this.frontEnd.setConfig(at, this.#config.slice(at, at + size))
    );
  }

  async waitInterrupt(index: number): Promise<void> {
    await this.frontEnd.waitCall(index);
  }

  takeInterrupt(index: number): Promise<boolean> {
    return Promise.resolve(this.frontEnd.events(index).call.drain() > 0);
  }

  /** `vhost_user_backend_handle_config_change`. */
  async waitConfigInterrupt(): Promise<void> {
    await this.frontEnd.configChange();
    const changed = await this.frontEnd.getConfig(0, this.#model.configSize);
    if (!this.#model.configChanged?.(this.#config, changed)) {
      throw new Error("QEMU keeps this configuration change from the guest");
    }
  }

  /** The monitor's `stop`: the rings come back to QEMU, nothing is reset. */
  async vmStop(): Promise<void> {
    this.#vmRunning = false;
    await this.#follow("continue");
  }

  /** The monitor's `cont`. */
  async vmContinue(): Promise<void> {
    this.#vmRunning = true;
    await this.#follow("continue");
  }

  /** `system_reset`, or a reboot of the guest. */
  async machineReset(): Promise<void> {
    this.#status = 0;
    await this.#follow("driver-ok");
    await this.#reset();
  }

  close(): Promise<void> {
    this.frontEnd.close();
    return Promise.resolve();
  }

  /** The device's `set_status`. */
  async #follow(reason: StartReason): Promise<void> {
    const shouldStart = this.#vmRunning &&
      (this.#status & VIRTIO_STATUS_DRIVER_OK) !== 0;
    if (shouldStart && !this.#started) await this.#start(reason);
    // What a kick started runs on until the status says otherwise.
    const keep = shouldStart ||
      (this.#startOnKick && this.#vmRunning && this.#status !== 0);
    if (!keep && this.#started) await this.#stop();
  }

  async #start(reason: StartReason): Promise<void> {
    const fe = this.frontEnd, queues = this.#model.queues;
    await this.#sendFeatures();
    for (let i = 0; i < queues; i++) await fe.setVringCall(i);
    await this.#sendFeatures();
    if (!this.#memorySent) {
      for (const region of this.#regions) {
        await this.#acknowledged(() => fe.addMemReg(region));
      }
      this.#memorySent = true;
    }
    for (const [index, layout] of this.#layouts) {
      await fe.setupRing(index, layout, this.#positions.get(index) ?? 0);
      // Readable before the ring is enabled: seen in every trace.
      fe.kick(index);
    }
    for (let i = 0; i < queues; i++) {
      await this.#acknowledged(() => fe.setVringEnable(i, true));
    }
    if (this.#model.neverDriverOk !== true) {
      await this.#addStatus(
        VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
          VIRTIO_STATUS_DRIVER_OK,
      );
    }
    this.#started = true;
    this.starts.push(reason);
  }

  async #stop(): Promise<void> {
    const fe = this.frontEnd;
    for (let i = 0; i < this.#model.queues; i++) {
      await this.#acknowledged(() => fe.setVringEnable(i, false));
    }
    for (const index of this.#layouts.keys()) {
      const position = await fe.getVringBase(index);
      this.#positions.set(index, position);
      this.#stoppedAt.set(index, position);
    }
    if (fe.negotiated(ProtocolFeature.STATUS) && !this.#model.silent) {
      await fe.setStatus(0);
    }
    this.#started = false;
  }

  /** `virtio_reset`. */
  async #reset(): Promise<void> {
    if (
      this.frontEnd.negotiated(ProtocolFeature.RESET_DEVICE) &&
      !this.#model.silent
    ) {
      await this.frontEnd.resetDevice();
      this.resets++;
    }
    this.#guestFeatures = 0n;
    this.#startOnKick = false;
    this.#layouts.clear();
    this.#positions.clear();
  }

  /** `vhost_user_set_features`. */
  async #sendFeatures(): Promise<void> {
    const transport = featureMask(VHOST_USER_F_PROTOCOL_FEATURES);
    await this.frontEnd.setFeatures(this.#guestFeatures | transport);
    await this.#addStatus(VIRTIO_STATUS_FEATURES_OK);
  }

  /** `vhost_user_add_status`. */
  async #addStatus(bits: number): Promise<void> {
    if (!this.frontEnd.negotiated(ProtocolFeature.STATUS)) return;
    const status = await this.frontEnd.getStatus();
    if ((status & bits) === bits) return;
    await this.frontEnd.setStatus(status | bits);
  }

  /** Sends a request that QEMU waits for (`REPLY_ACK`). */
  async #acknowledged(request: () => Promise<void>): Promise<void> {
    this.frontEnd.acks = true;
    try {
      await request();
    } finally {
      this.frontEnd.acks = false;
    }
  }
}
