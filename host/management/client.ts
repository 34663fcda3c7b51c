/**
 * Calling the methods of a management socket.
 *
 * @module
 */

import type { Reactor } from "../../sys/reactor.ts";
import { SystemError } from "../../sys/errno.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { HostError, messageOf } from "../error.ts";
import { RpcError, RpcResponse } from "./json_rpc.ts";
import { LineChannel } from "./line_channel.ts";

/** How long a call may take, in ms. */
export const DEFAULT_TIMEOUT = 30_000;
/** Bytes of a response, at most. */
const MAXIMUM_RESPONSE = 64 << 20;

/** A client of a management socket. */
export class ManagementClient implements Disposable {
  readonly #channel: LineChannel;
  readonly #path: string;
  #lastId = 0;

  private constructor(channel: LineChannel, path: string) {
    this.#channel = channel;
    this.#path = path;
  }

  /**
   * Connects.
   *
   * @throws {HostError} of kind `management` when nobody listens on `path`
   */
  static connect(path: string, reactor: Reactor): ManagementClient {
    try {
      const socket = UnixSocket.connect(path);
      const channel = new LineChannel(socket, reactor, MAXIMUM_RESPONSE);
      return new ManagementClient(channel, path);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      const absent = error.kind === "ENOENT" || error.kind === "ECONNREFUSED";
      throw new HostError(
        "management",
        absent
          ? `No server listens on "${path}": start "serve", or name its socket with --management=PATH`
          : `Cannot connect to "${path}": ${error.message}`,
        { cause: error },
      );
    }
  }

  /**
   * Calls a method, one at a time.
   *
   * @param timeout in ms; the connection is closed when it runs out
   * @returns the result: a JSON value
   * @throws {RpcError} when the server answers with an error
   * @throws {HostError} of kind `management` when it does not answer, or
   * answers something else
   */
  async call(
    method: string,
    params: Readonly<Record<string, unknown>> = {},
    timeout = DEFAULT_TIMEOUT,
  ): Promise<unknown> {
    const id = ++this.#lastId;
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#channel.close();
    }, timeout);
    try {
      const request = { jsonrpc: "2.0", method, params, id };
      await this.#channel.writeLine(JSON.stringify(request));
      return resultOf(await this.#channel.readLine(), id);
    } catch (error) {
      if (error instanceof RpcError) throw error;
      const problem = late ? `no answer in ${timeout} ms` : messageOf(error);
      throw new HostError(
        "management",
        `Calling "${method}" on "${this.#path}" failed: ${problem}`,
        { cause: error },
      );
    } finally {
      clearTimeout(timer);
    }
  }

  /** Closes the connection. */
  close(): void {
    this.#channel.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function resultOf(line: string | null, id: number): unknown {
  if (line === null) throw new Error("the server closed the connection");
  const { success, data: response } = RpcResponse.safeParse(JSON.parse(line));
  if (!success) throw new Error("the answer is no JSON-RPC 2.0 response");
  if ("error" in response) {
    const { code, message, data } = response.error;
    throw new RpcError(code, message, data);
  }
  if (response.id !== id) {
    throw new Error(`the answer is to request ${response.id}, not to ${id}`);
  }
  return response.result;
}
