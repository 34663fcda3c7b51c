/**
 * A virtio-pci device as a guest's bus driver sees it: registers, interrupts,
 * and what a monitor can do to the machine. There is a model of QEMU's
 * (`../qemu/vhost_user_pci.ts`) and QEMU itself (`../qemu/qtest_pci.ts`).
 *
 * @module
 */

import type { RingLayout } from "../../../vhost/testing/front_end.ts";

/** What made a device start. */
export type StartReason = "driver-ok" | "kick" | "continue";

/** What was said to the back-end; QEMU itself does not tell. */
export interface Conversation {
  /** Reasons for which the device started, oldest first. */
  readonly starts: readonly StartReason[];
  /** `VHOST_USER_RESET_DEVICE` that were sent. */
  readonly resets: number;
  /** What `VHOST_USER_GET_VRING_BASE` answered last, resets notwithstanding. */
  stoppedAt(index: number): number | undefined;
}

/** Registers and interrupts of one function, through one of its interfaces. */
export interface VirtioPciDevice {
  /** What was said to the back-end, where that is known. */
  readonly conversation: Conversation | null;

  /** Device status register. */
  readStatus(): Promise<number>;
  /** Writes the device status register; 0 resets the device. */
  writeStatus(status: number): Promise<void>;
  /** Device features register: 32 bits of it for legacy drivers. */
  readFeatures(): Promise<bigint>;
  /** Driver features register. */
  writeFeatures(features: bigint): Promise<void>;
  /** Number of queues register (modern). */
  queueCount(): Promise<number>;
  /** Queue size register; 0 where there is no queue. */
  queueSize(index: number): Promise<number>;
  /** Queue address register (legacy): a page number. */
  writeQueuePfn(index: number, pfn: number): Promise<void>;
  /** Queue registers (modern), then queue enable. */
  enableQueue(index: number, layout: RingLayout): Promise<void>;
  /** Queue notify register. */
  notify(index: number): Promise<void>;
  /** Reads the configuration space. */
  readConfig(offset: number, length: number): Promise<Uint8Array>;
  /** Writes a byte of the configuration space, or four little-endian ones. */
  writeConfig(offset: number, value: number, length?: 1 | 4): Promise<void>;

  /**
   * Waits for an interrupt of a queue.
   *
   * @throws {Error} when none comes in time
   */
  waitInterrupt(index: number): Promise<void>;
  /** Takes an interrupt of a queue if there is one. */
  takeInterrupt(index: number): Promise<boolean>;
  /** Waits for an interrupt that says that the configuration changed. */
  waitConfigInterrupt(): Promise<void>;

  /** The monitor's `stop`. */
  vmStop(): Promise<void>;
  /** The monitor's `cont`. */
  vmContinue(): Promise<void>;
  /** The monitor's `system_reset`. */
  machineReset(): Promise<void>;
  /** Unplugs everything. */
  close(): Promise<void>;
}
