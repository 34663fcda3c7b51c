/**
 * Load on a disk whose every answer is checked.
 *
 * Theory of operation: in each round, a number of requests of one sector are in
 * flight together. They write stamps that no other round writes, and then read
 * them back. A request that is lost ends the wait of the round by its limit; one
 * that fails, or that has other data, is an error.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { waitUntil } from "../support/deadline.ts";
import { Guest, SECTOR, T_IN, T_OUT } from "../protocol/disk.ts";

/** Requests in flight. */
const DEPTH = 32;

/** A sector that says which sector and round it is from. */
export function stamp(sector: number, round: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(SECTOR / 4).fill(round);
  words[0] = sector;
  return new Uint8Array(words.buffer);
}

/** Keeps a disk busy until it is stopped. */
export class VerifiedLoad implements AsyncDisposable {
  /** Rounds that went well. */
  rounds = 0;
  readonly #guest: Guest;
  readonly #sectors: number;
  readonly #running: Promise<void>;
  #stopping = false;
  #failure: unknown = null;

  private constructor(guest: Guest, sectors: number) {
    this.#guest = guest;
    this.#sectors = sectors;
    this.#running = this.#run();
  }

  /** Connects to a disk of so many sectors, and starts. */
  static async start(socket: string, sectors = 8192): Promise<VerifiedLoad> {
    return new VerifiedLoad(await Guest.run(socket), sectors);
  }

  /** Waits until so many more rounds went well. */
  async progress(rounds = 5): Promise<void> {
    const goal = this.rounds + rounds;
    await waitUntil(() => this.rounds >= goal || this.#failure !== null, {
      what: `${rounds} rounds of verified load`,
      timeout: 30_000,
    });
    if (this.#failure !== null) throw this.#failure;
  }

  /**
   * Ends after the current round.
   *
   * @throws {Error} the first thing that went wrong
   */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
    if (this.#failure !== null) throw this.#failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true;
    await this.#running;
    this.#guest[Symbol.dispose]();
  }

  async #run(): Promise<void> {
    try {
      while (!this.#stopping) {
        await this.#round(this.rounds + 1);
        this.rounds++;
      }
    } catch (error) {
      this.#failure = error;
    }
  }

  async #round(round: number): Promise<void> {
    const guest = this.#guest;
    const sectors = Array.from(
      { length: DEPTH },
      (_, i) => (round * 131 + i * 17) % this.#sectors,
    );
    for (const sector of sectors) {
      guest.submit(T_OUT, sector, stamp(sector, round));
    }
    for (const { data } of await guest.complete(DEPTH)) {
      assertEquals([...data], [0]);
    }
    const asked = new Map(
      sectors.map((sector) =>
        [guest.submit(T_IN, sector, SECTOR), sector] as const
      ),
    );
    for (const { token, data } of await guest.complete(DEPTH)) {
      assertEquals(data.at(-1), 0);
      assertEquals(
        data.subarray(0, -1),
        stamp(asked.get(token)!, round),
        `sector ${asked.get(token)}, round ${round}`,
      );
    }
  }
}
