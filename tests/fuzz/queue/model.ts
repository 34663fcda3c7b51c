/**
 * What the model of a queue is asked, whatever the layout of its ring.
 *
 * @module
 */

import type { ModelChain } from "../ring/model.ts";

/** What a device has to do with a queue. */
export interface QueueModel<Chain extends ModelChain> {
  /** What it has come to. */
  readonly state: {
    /** Chain objects with the device. */
    readonly inFlight: readonly unknown[];
    /** Chains that were given back. */
    readonly parked: readonly unknown[];
    /** Where the next answer goes. */
    readonly used: number;
    readonly broken: boolean;
    /** Bad chains that were looked at. */
    readonly bad: number;
    /** Chains that were answered. */
    readonly answered: number;
  };
  /** `position` of the queue. */
  readonly position: number;
  /** Where it looks next, as the driver counts. */
  readonly next: number;
  /** `available` of the queue. */
  available(): boolean;
  /** `ready` of the queue. */
  ready(): boolean;
  /** The next chain; bad ones are answered or passed over. */
  take(): Chain | null;
  /** The device answers a chain. */
  complete(chain: Chain, written: number): void;
  /** Whether a chain is the one that was taken last. */
  canUntake(chain: Chain): boolean;
  /** The device gives back the chain that was taken last. */
  untake(chain: Chain): void;
  /** Shows what was answered; whether the driver is to be notified. */
  publish(): boolean;
  /** Asks for notifications; true when there is something to do already. */
  enableNotification(): boolean;
  /** Asks for none. */
  disableNotification(): void;
  /** The ring was found again, where that changes anything. */
  rebind?(): void;
}
