/**
 * The management socket of a server. What answers is loaded when somebody asks
 * for the first time: most servers are never asked, and the schemas take more
 * memory than all else of a supervisor.
 *
 * @module
 */

import { EPOLLIN } from "../../sys/epoll.ts";
import type { Reactor } from "../../sys/reactor.ts";
import { UnixListener } from "../../sys/unix_socket.ts";
import { HostError, messageOf } from "../error.ts";
import type { Logger } from "../log.ts";
import { PROGRAM, VERSION } from "../version.ts";
import type { ManagedDevice } from "./device_methods.ts";

/**
 * Listens for clients who ask about `devices`.
 *
 * @returns what ends it
 * @throws {HostError} of kind `start` when the socket cannot be had
 */
export function listenForManagement(
  path: string,
  devices: readonly ManagedDevice[],
  reactor: Reactor,
  log: Logger,
): Disposable {
  let listener: UnixListener;
  try {
    listener = UnixListener.listen(path, { mode: 0o600 });
  } catch (error) {
    throw new HostError(
      "start",
      `${
        messageOf(error)
      }; choose another management socket with --management=PATH, or off`,
      { cause: error },
    );
  }
  let end: Disposable = listener;
  const watch = reactor.watch(listener.fd, EPOLLIN, () => {
    watch.close();
    serve().catch((error) => {
      log.error(`Cannot serve the management socket: ${messageOf(error)}`);
      listener.close();
    });
  });
  const serve = async (): Promise<void> => {
    const { ManagementServer } = await import("./server.ts");
    const { Methods } = await import("./methods.ts");
    const { registerDeviceMethods } = await import("./device_methods.ts");
    const { registerTypeMethods } = await import("./type_methods.ts");
    if (listener.closed) return;
    const methods = new Methods({ title: PROGRAM, version: VERSION });
    registerDeviceMethods(methods, devices, VERSION);
    registerTypeMethods(methods, devices);
    end = ManagementServer.adopt(listener, methods, reactor, log);
  };
  return {
    [Symbol.dispose](): void {
      watch.close();
      end[Symbol.dispose]();
    },
  };
}

/** Makes all devices look at the size of their images again. */
export async function resizeAll(
  devices: readonly ManagedDevice[],
  log: Logger,
): Promise<void> {
  log.info("Looking at the size of all images again: SIGHUP");
  try {
    const { resizeDevices } = await import("./device_methods.ts");
    const { ALL, select } = await import("./selection.ts");
    await resizeDevices(select(devices, ALL, "resize"));
  } catch (error) {
    log.error(messageOf(error));
  }
}
