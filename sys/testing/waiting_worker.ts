/**
 * A Worker as the data plane has them: it blocks in `Epoll.wait`, and writes to
 * memory that the main thread mapped.
 *
 * @module
 */

import { Epoll, EPOLLIN } from "../epoll.ts";
import { drainEventFd } from "../eventfd.ts";
import { detachMemory, viewMemory } from "../mapping.ts";
import { currentThreadId } from "../process.ts";

/** What the Worker is told first. */
export interface WaitingWorkerOrder {
  /** An eventfd to wait for. */
  fd: number;
  /** Address of mapped memory. */
  address: number;
  /** Its size in bytes. */
  size: number;
}

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<WaitingWorkerOrder>) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
};

scope.onmessage = (event) => {
  const { fd, address, size } = event.data;
  const buffer = viewMemory(address, size);
  const bytes = new Uint8Array(buffer);
  using epoll = new Epoll();
  epoll.add(fd, EPOLLIN, 5);
  scope.postMessage({ thread: currentThreadId() });
  const events = epoll.wait(-1);
  const signals = drainEventFd(fd);
  bytes[1] = bytes[0] + 1;
  const token = epoll.token(0);
  detachMemory(buffer);
  scope.postMessage({ events, signals, token, length: bytes.length });
  scope.close();
};
