/**
 * FreeBSD's virtio_pci(4): the bus between a virtio driver and a PCI device.
 *
 * Theory of operation: until 12 one driver (`sys/dev/virtio/pci/virtio_pci.c`,
 * legacy only); since 13 `virtio_pci_legacy.c` and `virtio_pci_modern.c` over a
 * shared `virtio_pci.c`. What they do to a device differs in little, which the
 * release and the interface say. Methods are named after the functions.
 *
 * Interrupts are served where a driver sleeps ({@linkcode VirtioPci.sleep}):
 * the kernel's threads are one here, and an interrupt that never comes ends the
 * sleep with an error instead of a hung guest.
 *
 * @module
 */

import {
  hasFeature,
  VIRTIO_F_VERSION_1,
  VIRTIO_STATUS_FEATURES_OK,
} from "../../../virtqueue/constants.ts";
import { waitUntil } from "../../support/deadline.ts";
import type { VirtioPciDevice } from "./device.ts";
import {
  describeFeatures,
  type FeatureNames,
  filterTransportFeatures,
} from "./features.ts";
import { FreeBsdErrno, kassert, type MessageBuffer } from "./kernel.ts";
import type { PhysicalMemory } from "./memory.ts";
import type { FreeBsdRelease } from "./releases.ts";
import { type Dequeued, Virtqueue } from "./virtqueue.ts";

const STATUS_RESET = 0x00;
const STATUS_ACK = 0x01;
/** Includes ACK, as the driver's header has it. */
const STATUS_DRIVER = 0x03;
const STATUS_DRIVER_OK = 0x04;
const STATUS_FAILED = 0x80;

/** Name of the bus device in messages. */
const BUS = "virtio_pci0";

/** How the device is attached. */
export interface Attachment {
  /** Through the modern interface; otherwise through the legacy one. */
  readonly modern: boolean;
  /**
   * MSI-X with a vector for each queue, or INTx (a device on the root bus of
   * QEMU's q35).
   */
  readonly interrupts: "msix" | "intx";
}

/** A driver on the bus: the methods of `device_if.m` and `virtio_if.m`. */
export interface VirtioChild {
  /** Unit name in messages. */
  readonly name: string;
  /** `virtio_set_feature_desc`. */
  readonly featureNames: FeatureNames;
  /** `device_attach`: 0 or an error number. */
  attach(bus: VirtioPci): Promise<number>;
  /** `virtio_attach_completed`. */
  attachCompleted?(): Promise<void>;
  /** `device_detach`. */
  detach(): Promise<void>;
  /** `device_shutdown`. */
  shutdown?(): Promise<void>;
  /** `virtio_config_change`. */
  configChange?(): Promise<void>;
}

/** `struct vq_alloc_info`. */
export interface QueueRequest {
  /** `vqai_name`. */
  readonly name: string;
  /** `vqai_maxindirsz`. */
  readonly maxIndirect: number;
  /** `vqai_intr`. */
  readonly interrupt: () => void;
}

/** The parts of a machine that the bus works with. */
export interface BusMachine {
  readonly release: FreeBsdRelease;
  readonly memory: PhysicalMemory;
  readonly device: VirtioPciDevice;
  readonly dmesg: MessageBuffer;
}

/** `virtio_pci0`. */
export class VirtioPci {
  /** Negotiated features. */
  features = 0n;
  /** The driver is attached (`device_is_attached`). */
  attached = false;
  /** Interrupts that found nothing to do. */
  strayInterrupts = 0;
  readonly #machine: BusMachine;
  readonly #attachment: Attachment;
  readonly #queues: Virtqueue<unknown>[] = [];
  #child: VirtioChild | null = null;
  #notified: Promise<void> = Promise.resolve();

  /** A bus device that has probed; {@linkcode VirtioPci.attach} is next. */
  constructor(machine: BusMachine, attachment: Attachment) {
    kassert(
      !attachment.modern || machine.release.modernPci,
      `FreeBSD ${machine.release.name} has no modern driver`,
    );
    this.#machine = machine;
    this.#attachment = attachment;
  }

  /** Memory of the machine. */
  get memory(): PhysicalMemory {
    return this.#machine.memory;
  }

  /** The release that runs. */
  get release(): FreeBsdRelease {
    return this.#machine.release;
  }

  /** `virtio_bus_is_modern`. */
  get modern(): boolean {
    return this.#attachment.modern;
  }

  /**
   * File and name of a function of the bus driver, for people:
   * `vtpci_attach`, since 13 `vtpci_legacy_attach` or `vtpci_modern_attach`.
   */
  functionName(name: string): string {
    const { legacy, modern, split } = this.release.pciFiles;
    const file = this.modern ? modern! : legacy;
    const infix = !split ? "" : this.modern ? "modern_" : "legacy_";
    return `${file} vtpci_${infix}${name}`;
  }

  /** `vtpci_attach`, `vtpci_legacy_attach`, `vtpci_modern_attach`. */
  async attach(): Promise<void> {
    await this.#reset();
    await this.#setStatus(STATUS_ACK);
  }

  /**
   * `vtpci_driver_added` and `vtpci_probe_and_attach_child`: `kldload` of a
   * driver, or what follows the attachment of the bus at boot.
   *
   * @returns the error number of the driver
   */
  async attachChild(child: VirtioChild): Promise<number> {
    kassert(this.#child === null, `${BUS} has a driver already`);
    this.#child = child;
    await this.#setStatus(STATUS_DRIVER);
    const error = await child.attach(this);
    if (error !== 0) {
      await this.#setStatus(STATUS_FAILED);
      await this.#childDetached();
      return error;
    }
    this.attached = true;
    await this.#setStatus(STATUS_DRIVER_OK);
    await child.attachCompleted?.();
    return 0;
  }

  /** `kldunload` of the driver: `device_detach`, `vtpci_child_detached`. */
  async detachChild(): Promise<void> {
    await this.#child?.detach();
    this.attached = false;
    await this.#childDetached();
  }

  /** `vtpci_shutdown`: `shutdown(8)`, reboots included. */
  async shutdown(): Promise<void> {
    await this.#child?.shutdown?.();
    await this.stop();
  }

  /**
   * The machine was reset under the driver: nothing of it is left, its memory
   * is another kernel's.
   */
  forget(): void {
    this.#queues.length = 0;
    this.#child = null;
    this.attached = false;
    this.features = 0n;
  }

  /** `virtio_stop`. */
  async stop(): Promise<void> {
    await this.#reset();
  }

  /**
   * `virtio_reinit` (`vtpci_legacy_reinit`, `vtpci_modern_reinit`): from reset to
   * queues that are set up anew, in the memory that they have.
   */
  async reinit(features: bigint): Promise<number> {
    const { device } = this.#machine;
    if (await device.readStatus() !== STATUS_RESET) await this.stop();
    await this.#setStatus(STATUS_ACK);
    await this.#setStatus(STATUS_DRIVER);
    await this.negotiateFeatures(features);
    const error = await this.finalizeFeatures();
    if (error !== 0) return error;
    // vtpci_reinit.
    for (const queue of this.#queues) {
      const failed = queue.reinit(await device.queueSize(queue.index));
      if (failed !== 0) return failed;
      if (this.modern) await device.enableQueue(queue.index, queue);
      else {
        await device.writeQueuePfn(queue.index, queue.descriptorTable / 4096);
      }
    }
    return 0;
  }

  /** `virtio_reinit_complete`. */
  async reinitComplete(): Promise<void> {
    await this.#setStatus(STATUS_DRIVER_OK);
  }

  /** `virtio_negotiate_features`. */
  async negotiateFeatures(wanted: bigint): Promise<bigint> {
    const { device, release } = this.#machine;
    const host = await device.readFeatures();
    this.#describe("host", host);
    const child = this.modern
      ? wanted | 1n << BigInt(VIRTIO_F_VERSION_1)
      : wanted;
    const features = filterTransportFeatures(
      host & child,
      release.transportFilter,
    );
    this.features = features;
    this.#describe("negotiated", features);
    await device.writeFeatures(features);
    return features;
  }

  /** `virtio_finalize_features`: legacy devices have nothing to finalize. */
  async finalizeFeatures(): Promise<number> {
    if (!this.modern) return 0;
    await this.#setStatus(VIRTIO_STATUS_FEATURES_OK);
    const status = await this.#machine.device.readStatus();
    return (status & VIRTIO_STATUS_FEATURES_OK) === 0
      ? FreeBsdErrno.ENOTSUP
      : 0;
  }

  /** `virtio_with_feature`. */
  withFeature(bit: number): boolean {
    return hasFeature(this.features, bit);
  }

  /** `virtio_alloc_virtqueues`: the queues, or an error number. */
  async allocVirtqueues<Cookie>(
    requests: readonly QueueRequest[],
  ): Promise<Virtqueue<Cookie>[] | number> {
    const { device, release, memory } = this.#machine;
    if (this.modern && requests.length > await device.queueCount()) {
      return FreeBsdErrno.EINVAL;
    }
    const queues: Virtqueue<Cookie>[] = [];
    for (const [index, request] of requests.entries()) {
      const queue = Virtqueue.alloc<Cookie>(memory, {
        ...request,
        index,
        size: await device.queueSize(index),
        features: this.features,
        highAddress: release.ringHighAddress,
        notify: (index) => this.#notify(index),
      });
      if (typeof queue === "number") return queue;
      if (!this.modern) {
        await device.writeQueuePfn(index, queue.descriptorTable / 4096);
      }
      queues.push(queue);
      this.#queues.push(queue);
    }
    return queues;
  }

  /** `virtio_setup_intr`; the modern driver enables its queues with it. */
  async setupIntr(): Promise<void> {
    if (!this.modern) return;
    for (const queue of this.#queues) {
      await this.#machine.device.enableQueue(queue.index, queue);
    }
  }

  /** `virtio_read_device_config`. */
  readConfig(offset: number, length: number): Promise<Uint8Array> {
    return this.#machine.device.readConfig(offset, length);
  }

  /** `virtio_write_dev_config_1`. */
  async writeConfig1(offset: number, value: number): Promise<void> {
    await this.#machine.device.writeConfig(offset, value);
  }

  /** `virtio_write_dev_config_4`. */
  async writeConfig4(offset: number, value: number): Promise<void> {
    await this.#machine.device.writeConfig(offset, value, 4);
  }

  /**
   * Sleeps (`mtx_sleep`, or `biowait` of whoever issued the I/O) and serves
   * interrupts of a queue until a condition holds.
   *
   * @param what the driver waits for, for messages
   */
  async sleep(
    queue: Virtqueue<unknown>,
    until: () => boolean,
    what: string,
  ): Promise<void> {
    await this.#notified;
    while (!until()) {
      try {
        await this.#machine.device.waitInterrupt(queue.index);
      } catch (cause) {
        throw new Error(
          `No interrupt while the driver waits for ${what}: ` +
            `avail.idx=${queue.availableIndex} used.idx=${queue.usedIndex} ` +
            `used_cons_idx=${queue.dequeued & 0xffff}`,
          { cause },
        );
      }
      this.#interrupt(queue);
    }
  }

  /** Serves an interrupt of a queue if one is pending. */
  async serveInterrupt(queue: Virtqueue<unknown>): Promise<boolean> {
    await this.#notified;
    const { device } = this.#machine;
    if (!await device.takeInterrupt(queue.index)) return false;
    this.#interrupt(queue);
    return true;
  }

  /** Waits for a configuration interrupt and serves it. */
  async sleepConfigChange(): Promise<void> {
    await this.#machine.device.waitConfigInterrupt();
    await this.#child?.configChange?.();
  }

  /** `virtqueue_poll`: spins, for ever in the original. */
  async poll<Cookie>(queue: Virtqueue<Cookie>): Promise<Dequeued<Cookie>> {
    await this.#notified;
    let found: Dequeued<Cookie> | null = null;
    await waitUntil(() => (found = queue.dequeue()) !== null, {
      what: "the device to answer a polling driver",
      interval: 0,
    });
    return found!;
  }

  /** `vtpci_vq_intr_filter` and `vtpci_vq_intr`, or `vtpci_intx_intr`. */
  #interrupt(queue: Virtqueue<unknown>): void {
    if (this.#attachment.interrupts === "msix" && !queue.intrFilter()) {
      this.strayInterrupts++;
      return;
    }
    queue.intr();
  }

  /** `vtpci_notify_virtqueue`. */
  #notify(index: number): void {
    const { device } = this.#machine;
    this.#notified = this.#notified.then(() => device.notify(index));
  }

  /** `vtpci_child_detached`. */
  async #childDetached(): Promise<void> {
    await this.#reset();
    for (const queue of this.#queues.splice(0)) {
      // vtpci_free_virtqueues; modern registers take zeroes without effect.
      if (!this.modern) {
        await this.#machine.device.writeQueuePfn(queue.index, 0);
      }
      queue.free();
    }
    this.#child = null;
    this.features = 0n;
    if (this.release.acknowledgesAfterDetach) {
      await this.#setStatus(STATUS_ACK);
    }
  }

  /** `vtpci_reset`. */
  async #reset(): Promise<void> {
    await this.#notified;
    await this.#setStatus(STATUS_RESET);
    const status = await this.#machine.device.readStatus();
    kassert(status === STATUS_RESET, "the device does not reset");
  }

  /** `vtpci_set_status`. */
  async #setStatus(status: number): Promise<void> {
    const { device } = this.#machine;
    // A write to a register is done before the next one begins.
    await this.#notified;
    const old = status === STATUS_RESET ? 0 : await device.readStatus();
    await device.writeStatus(old | status);
  }

  /** `vtpci_describe_features`, of a verbose boot. */
  #describe(message: string, features: bigint): void {
    const { dmesg, release } = this.#machine;
    dmesg.print(
      BUS,
      describeFeatures(
        message,
        features,
        this.#child?.featureNames ?? {},
        release.commonNames,
      ),
    );
  }
}
