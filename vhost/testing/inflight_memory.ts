/**
 * The front-end's side of inflight tracking, for tests.
 *
 * @module
 */

import type { OwnedFd } from "../../sys/fd.ts";
import { FrontEndMessage } from "../constants.ts";
import {
  decodeInflight,
  encodeInflight,
  type InflightDescription,
} from "../message.ts";
import type { FrontEnd } from "./front_end.ts";
import { FrontEndError } from "./requester.ts";

/** An area that outlives back-ends. Owns its descriptor. */
export class InflightMemory implements Disposable {
  /** What to say of it. */
  readonly description: InflightDescription;
  readonly #fd: OwnedFd;

  /** Takes over the descriptor. */
  constructor(description: InflightDescription, fd: OwnedFd) {
    this.description = description;
    this.#fd = fd;
  }

  /** Asks a back-end for an area (`VHOST_USER_GET_INFLIGHT_FD`). */
  static async get(
    frontEnd: FrontEnd,
    queueCount: number,
    queueSize: number,
  ): Promise<InflightMemory> {
    const request = FrontEndMessage.GET_INFLIGHT_FD;
    const { payload, fds } = await frontEnd.getWithFds(
      request,
      encodeInflight({ mmapSize: 0, mmapOffset: 0, queueCount, queueSize }),
    );
    if (fds.length !== 1) {
      for (const fd of fds) fd.close();
      throw new FrontEndError(`${fds.length} descriptors came with the area`);
    }
    return new InflightMemory(decodeInflight(request, payload), fds[0]);
  }

  /** The descriptor. */
  get fd(): number {
    return this.#fd.fd;
  }

  /** Hands the area to a back-end (`VHOST_USER_SET_INFLIGHT_FD`). */
  async set(
    frontEnd: FrontEnd,
    description: InflightDescription = this.description,
  ): Promise<void> {
    await frontEnd.set(
      FrontEndMessage.SET_INFLIGHT_FD,
      encodeInflight(description),
      [this.fd],
    );
  }

  /** Closes the descriptor. */
  [Symbol.dispose](): void {
    this.#fd.close();
  }
}
