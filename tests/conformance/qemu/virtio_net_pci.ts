/**
 * QEMU's virtio-net-pci with a vhost-user netdev: what a guest's accesses turn
 * into, and who answers its commands.
 *
 * Theory of operation: QEMU has a connection for the netdev and a `vhost_dev` for
 * each queue pair, and negotiates once for each of them. The control queue is
 * QEMU's: it is served whenever it is notified, before DRIVER_OK too, and the
 * back-end sees neither the ring nor what is said on it, but for the pairs in
 * use: only those run. The configuration space is QEMU's as well.
 *
 * Sources: `hw/net/virtio-net.c`, `hw/net/vhost_net.c`, `net/vhost-user.c`.
 *
 * @module
 */

import { type Controlled, runCommand } from "../../../backends/net/control.ts";
import {
  NetFeature,
  VIRTIO_NET_ERR,
  VIRTIO_NET_OK,
} from "../../../backends/net/protocol.ts";
import { RxFilter } from "../../../backends/net/rx_filter.ts";
import { VHOST_USER_F_PROTOCOL_FEATURES } from "../../../vhost/constants.ts";
import type {
  FrontEnd,
  RingLayout,
  SharedRegion,
} from "../../../vhost/testing/front_end.ts";
import {
  featureMask,
  hasFeature,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTIO_STATUS_DRIVER_OK,
} from "../../../virtqueue/constants.ts";
import { GuestMemory } from "../../../virtqueue/memory.ts";
import { SplitQueue } from "../../../virtqueue/split_queue.ts";
import { FakeMemory } from "../../../virtqueue/testing/driver.ts";
import type {
  Conversation,
  StartReason,
  VirtioPciDevice,
} from "../freebsd/device.ts";
import {
  COMMON_BACKEND_BITS,
  COMMON_FEATURES,
  LEGACY_FEATURES,
  legacyLayout,
  VIRTIO_F_BAD_FEATURE,
} from "./vhost_user_pci.ts";

const QUEUE_SIZE = 256;
/** `struct virtio_net_config` up to the MTU. */
const CONFIG_SIZE = 12, CONFIG_STATUS = 6, CONFIG_PAIRS = 8;
const LINK_UP = 1;
const MAX_SEGMENTS = 64;

const N = NetFeature;
/** What the device offers by itself. */
const OWN = [
  ...[N.MAC, N.STATUS, N.CTRL_VQ, N.CTRL_RX, N.CTRL_VLAN, N.CTRL_RX_EXTRA],
  ...[N.CTRL_MAC_ADDR, N.CTRL_GUEST_OFFLOADS],
];
/** `user_feature_bits`: what the back-end decides about. */
const BACKEND = [
  ...[N.CSUM, N.GUEST_CSUM, N.GUEST_TSO4, N.GUEST_TSO6, N.GUEST_ECN],
  ...[N.GUEST_UFO, N.HOST_TSO4, N.HOST_TSO6, N.HOST_ECN, N.HOST_UFO],
  ...[N.MRG_RXBUF, N.GUEST_ANNOUNCE, N.MQ],
];

/** virtio-net-pci, `queues=` pairs, in front of a back-end. */
export class VirtioNetPci implements VirtioPciDevice, Conversation, Controlled {
  readonly frontEnd: FrontEnd;
  /** `vdev->host_features`. */
  readonly hostFeatures: bigint;
  readonly starts: StartReason[] = [];
  /** The netdev's back-end is never told of a reset. */
  readonly resets = 0;
  /** `max_queue_pairs`. */
  readonly pairs: number;
  /** `rx_filter`, QEMU's. */
  readonly filter: RxFilter = new RxFilter();
  /** Commands that were answered. */
  commands = 0;
  readonly #modern: boolean;
  readonly #regions: readonly SharedRegion[];
  readonly #memory = new GuestMemory();
  readonly #config = new Uint8Array(CONFIG_SIZE);
  readonly #layouts = new Map<number, RingLayout>();
  readonly #positions = new Map<number, number>();
  readonly #stoppedAt = new Map<number, number>();
  #features = 0n;
  #control: SplitQueue | null = null;
  /** `curr_queue_pairs`. */
  #used = 1;
  #running = 0;
  #status = 0;
  #memorySent = false;
  #vmRunning = true;

  private constructor(
    frontEnd: FrontEnd,
    mac: readonly number[],
    pairs: number,
    modern: boolean,
    regions: readonly SharedRegion[],
    backend: bigint,
  ) {
    this.frontEnd = frontEnd;
    this.pairs = pairs;
    this.#modern = modern;
    this.#regions = regions;
    new FakeMemory(regions).share(this.#memory);
    this.#config.set(mac);
    this.#config[CONFIG_STATUS] = LINK_UP;
    this.#config[CONFIG_PAIRS] = pairs;
    const bits = pairs > 1 ? BACKEND : BACKEND.filter((bit) => bit !== N.MQ);
    const decided = COMMON_BACKEND_BITS | featureMask(...bits);
    const offered = COMMON_FEATURES | featureMask(...OWN, ...bits) |
      featureMask(VIRTIO_F_VERSION_1, VIRTIO_F_BAD_FEATURE);
    this.hostFeatures = offered & ~(decided & ~backend);
  }

  /** `net_init_vhost_user` and `virtio_net_device_realize`. */
  static async realize(
    frontEnd: FrontEnd,
    mac: readonly number[],
    pairs: number,
    modern: boolean,
    regions: readonly SharedRegion[],
  ): Promise<VirtioNetPci> {
    frontEnd.acks = false;
    let features = 0n;
    for (let pair = 0; pair < pairs; pair++) {
      features = await frontEnd.getFeatures();
      if (pair === 0) {
        const protocol = await frontEnd.getProtocolFeatures();
        await frontEnd.setProtocolFeatures(protocol);
        const { queueCount } = frontEnd;
        const found = await frontEnd.getQueueNum();
        if (found < pairs) throw new Error(`${found} of ${queueCount} queues`);
        await frontEnd.getMaxMemSlots();
        frontEnd.acks = true;
        await frontEnd.setBackendReqFd();
        frontEnd.acks = false;
      }
      await frontEnd.setOwner();
      await frontEnd.getFeatures();
      for (const index of [2 * pair, 2 * pair + 1]) {
        await frontEnd.setVringCall(index);
        await frontEnd.setVringErr(index);
      }
    }
    const device = new VirtioNetPci(
      frontEnd,
      mac,
      pairs,
      modern,
      regions,
      features,
    );
    await device.#enablePairs();
    await device.machineReset();
    return device;
  }

  get conversation(): Conversation {
    return this;
  }

  /** Features of the driver. */
  get negotiated(): bigint {
    return this.#features;
  }

  stoppedAt(index: number): number | undefined {
    return this.#stoppedAt.get(index);
  }

  readStatus(): Promise<number> {
    return Promise.resolve(this.#status);
  }

  /** `virtio_net_set_multiqueue`: the control queue moves behind all pairs. */
  get #controlIndex(): number {
    return hasFeature(this.#features, N.MQ) || this.pairs > 1
      ? 2 * this.pairs
      : 2;
  }

  queueSize(index: number): Promise<number> {
    return Promise.resolve(index <= 2 * this.pairs ? QUEUE_SIZE : 0);
  }

  queueCount(): Promise<number> {
    return Promise.resolve(2 * this.pairs + 1);
  }

  readFeatures(): Promise<bigint> {
    return Promise.resolve(
      this.#modern
        ? this.hostFeatures & ~LEGACY_FEATURES
        : this.hostFeatures & 0xffff_ffffn,
    );
  }

  async writeFeatures(features: bigint): Promise<void> {
    if (hasFeature(features, VIRTIO_F_BAD_FEATURE)) {
      throw new Error("The driver acknowledged BAD_FEATURE");
    }
    this.#features = features & this.hostFeatures;
    // virtio_net_set_features ends in vhost_net_ack_features for each pair.
    this.#used = 1;
    await this.#enablePairs();
  }

  async writeQueuePfn(index: number, pfn: number): Promise<void> {
    if (pfn === 0) return await this.writeStatus(0);
    this.#layouts.set(index, legacyLayout(pfn, QUEUE_SIZE));
  }

  enableQueue(index: number, layout: RingLayout): Promise<void> {
    const { size, descriptorTable, availableRing, usedRing } = layout;
    const copy = { size, descriptorTable, availableRing, usedRing };
    this.#layouts.set(index, copy);
    return Promise.resolve();
  }

  /** `virtio_net_set_status`, and `virtio_net_reset` for 0. */
  async writeStatus(status: number): Promise<void> {
    this.#status = status;
    await this.#follow("driver-ok");
    if (status !== 0) return;
    this.#features = 0n;
    this.#used = 1;
    this.#control = null;
    this.filter.reset();
    this.#layouts.clear();
    this.#positions.clear();
    await this.#enablePairs();
  }

  async notify(index: number): Promise<void> {
    if (index === this.#controlIndex) await this.#handleControl();
    else if (index < 2 * this.#running) this.frontEnd.kick(index);
  }

  readConfig(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length).fill(0xff);
    bytes.set(this.#config.subarray(offset, offset + length));
    return Promise.resolve(bytes);
  }

  /** `virtio_net_set_config`: the address, of a driver without a command for it. */
  writeConfig(offset: number, value: number): Promise<void> {
    if (!hasFeature(this.#features, N.CTRL_MAC_ADDR) && offset < 6) {
      this.#config[offset] = value;
    }
    return Promise.resolve();
  }

  async waitInterrupt(index: number): Promise<void> {
    await this.frontEnd.waitCall(index);
  }

  takeInterrupt(index: number): Promise<boolean> {
    return Promise.resolve(this.frontEnd.events(index).call.drain() > 0);
  }

  waitConfigInterrupt(): Promise<void> {
    throw new Error("The link of this device is QEMU's");
  }

  async vmStop(): Promise<void> {
    this.#vmRunning = false;
    await this.#follow("continue");
  }

  async vmContinue(): Promise<void> {
    this.#vmRunning = true;
    await this.#follow("continue");
  }

  async machineReset(): Promise<void> {
    await this.writeStatus(0);
  }

  close(): Promise<void> {
    this.frontEnd.close();
    return Promise.resolve();
  }

  // --- virtio_net_handle_ctrl ---

  setMac(mac: Uint8Array): void {
    this.#config.set(mac);
    this.filter.setMac(mac);
  }

  setPairs(pairs: number): void {
    this.#used = pairs;
  }

  setGuestOffloads(): boolean {
    return true;
  }

  announced(): void {}

  async #handleControl(): Promise<void> {
    const layout = this.#layouts.get(this.#controlIndex);
    if (layout === undefined) throw new Error("There is no control queue");
    this.#control ??= new SplitQueue({
      ...layout,
      index: this.#controlIndex,
      memory: this.#memory,
      position: 0,
      eventIdx: hasFeature(this.#features, VIRTIO_F_EVENT_IDX),
      indirect: hasFeature(this.#features, VIRTIO_F_INDIRECT_DESC),
      maxSegments: MAX_SEGMENTS,
    });
    const queue = this.#control;
    for (let chain = queue.take(); chain !== null; chain = queue.take()) {
      const used = this.#used;
      const done = runCommand(chain, this);
      this.commands++;
      // virtio_net_handle_mq stops and starts the back-end.
      if (used !== this.#used) {
        const now = this.#used;
        await this.#stop();
        this.#used = now;
        await this.#enablePairs();
        await this.#follow("continue");
      }
      chain.writeUint8(0, done ? VIRTIO_NET_OK : VIRTIO_NET_ERR);
      queue.complete(chain, 1);
      queue.publish();
    }
    queue.enableNotification();
  }

  /** `virtio_net_set_queue_pairs`: peers are attached, or not. */
  async #enablePairs(): Promise<void> {
    for (let index = 0; index < 2 * this.pairs; index++) {
      this.frontEnd.acks = true;
      await this.frontEnd.setVringEnable(index, index < 2 * this.#used);
      this.frontEnd.acks = false;
    }
  }

  /** `virtio_net_vhost_status`. */
  async #follow(reason: StartReason): Promise<void> {
    const should = this.#vmRunning &&
      (this.#status & VIRTIO_STATUS_DRIVER_OK) !== 0;
    if (should && this.#running === 0) await this.#start(reason);
    if (!should) await this.#stop();
  }

  /** `vhost_net_start`. */
  async #start(reason: StartReason): Promise<void> {
    const fe = this.frontEnd;
    const transport = featureMask(VHOST_USER_F_PROTOCOL_FEATURES);
    for (let pair = 0; pair < this.#used; pair++) {
      await fe.setFeatures(this.#features | transport);
      if (!this.#memorySent) {
        for (const region of this.#regions) {
          fe.acks = true;
          await fe.addMemReg(region);
          fe.acks = false;
        }
        this.#memorySent = true;
      }
      for (const index of [2 * pair, 2 * pair + 1]) {
        const layout = this.#layouts.get(index);
        if (layout === undefined) continue;
        await fe.setupRing(index, layout, this.#positions.get(index) ?? 0);
        fe.kick(index);
        await fe.setVringCall(index);
      }
    }
    this.#running = this.#used;
    this.starts.push(reason);
  }

  /** `vhost_net_stop`. */
  async #stop(): Promise<void> {
    for (let index = 0; index < 2 * this.#running; index++) {
      if (!this.#layouts.has(index)) continue;
      const position = await this.frontEnd.getVringBase(index);
      this.#positions.set(index, position);
      this.#stoppedAt.set(index, position);
    }
    this.#running = 0;
  }
}
