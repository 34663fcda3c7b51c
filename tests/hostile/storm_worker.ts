/**
 * A thread that does one thing without pause until it is told to stop: what a
 * front-end with a processor of its own can do.
 *
 * @module
 */

import { SystemError } from "../../sys/errno.ts";
import { signalEventFd } from "../../sys/eventfd.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import type { StormOrder } from "./storm.ts";

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<StormOrder>) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
};

/** What is done again and again, and at the end. */
interface Action {
  /** One step; it says how much it did. */
  step(): number;
  end(): void;
}

scope.onmessage = ({ data: order }) => {
  const action = actionOf(order);
  scope.postMessage("running");
  let done = 0;
  while (Atomics.load(order.stop, 0) === 0) done += action.step();
  action.end();
  scope.postMessage(done);
  scope.close();
};

function actionOf(order: StormOrder): Action {
  switch (order.kind) {
    case "messages":
      return sendMessages(order.socket, order.message);
    case "kicks":
      return {
        step() {
          signalEventFd(order.fd);
          return 1;
        },
        end() {},
      };
    case "connections":
      return { step: () => connect(order.socket), end() {} };
  }
}

function sendMessages(path: string, message: Uint8Array): Action {
  const socket = UnixSocket.connect(path);
  const bytes = new Uint8Array(message.length * 500);
  for (let i = 0; i < 500; i++) bytes.set(message, i * message.length);
  let rest = bytes;
  return {
    step() {
      const sent = Math.max(0, socket.trySend(rest));
      rest = sent === rest.length ? bytes : rest.subarray(sent);
      return sent;
    },
    end: () => socket.close(),
  };
}

function connect(path: string): number {
  try {
    using socket = UnixSocket.connect(path);
    // Who says nothing does not count.
    socket.trySend(new Uint8Array(1));
    return 1;
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    // The queue of those that wait is full.
    if (error.kind === "EAGAIN") return 0;
    // It was refused already.
    if (error.kind === "EPIPE") return 1;
    throw error;
  }
}
