/**
 * The methods of the management socket: registered by name, with schemas for
 * their parameters and results. The schemas check each call and make the
 * machine-readable description that `rpc.discover` returns.
 *
 * @module
 */

import { z } from "zod";
import { HostError, messageOf } from "../error.ts";
import {
  INTERNAL_ERROR,
  INVALID_PARAMS,
  issuesOf,
  METHOD_NOT_FOUND,
  REFUSED,
  RpcError,
} from "./json_rpc.ts";
import { didYouMean } from "../../backends/suggest.ts";

/** A method: what it is called with, what it returns, what it does. */
export interface Method<
  Params extends z.ZodObject = z.ZodObject,
  Result extends z.ZodType = z.ZodType,
> {
  /** One line for people, without a full stop. */
  readonly summary: string;
  /** Parameters, by name. */
  readonly params: Params;
  /** The result: a JSON value. */
  readonly result: Result;
  /** Does it; throws a {@linkcode HostError} or `RpcError` to refuse. */
  readonly handler: (
    params: z.infer<Params>,
  ) => z.infer<Result> | Promise<z.infer<Result>>;
}

/** The methods of a server. */
export class Methods {
  readonly #methods = new Map<string, Method>();
  readonly #info: { readonly title: string; readonly version: string };

  /** Starts with `rpc.discover` alone. */
  constructor(info: { readonly title: string; readonly version: string }) {
    this.#info = info;
    this.register("rpc.discover", {
      summary: "Describes all methods as an OpenRPC document",
      params: z.strictObject({}),
      result: z.looseObject({ openrpc: z.string() }),
      handler: () => this.describe(),
    });
  }

  /** Adds a method. */
  register<Params extends z.ZodObject, Result extends z.ZodType>(
    name: string,
    method: Method<Params, Result>,
  ): void {
    if (this.#methods.has(name)) {
      throw new TypeError(`The method "${name}" is registered already`);
    }
    this.#methods.set(name, method as unknown as Method);
  }

  /** The names, in the order of their registration. */
  get names(): string[] {
    return [...this.#methods.keys()];
  }

  /**
   * Checks parameters, calls a method, checks its result.
   *
   * @throws {RpcError} when there is no such method, when the parameters are
   * not its own, and when it refuses or fails
   */
  async call(name: string, params: unknown): Promise<unknown> {
    const method = this.#methods.get(name);
    if (method === undefined) {
      const hint = didYouMean(name, this.names);
      throw new RpcError(
        METHOD_NOT_FOUND,
        `There is no method "${name}"${hint}`,
      );
    }
    const given = method.params.safeParse(params ?? {});
    if (!given.success) {
      throw new RpcError(
        INVALID_PARAMS,
        Array.isArray(params)
          ? `Cannot call "${name}": parameters are given by name, in an object`
          : `Cannot call "${name}": ${
            issuesOf(given.error, Object.keys(method.params.shape))
          }`,
      );
    }
    const result = method.result.safeParse(
      await this.#perform(method, given.data),
    );
    if (result.success) return result.data;
    throw new RpcError(
      INTERNAL_ERROR,
      `The result of "${name}" is not what its schema says: ${
        issuesOf(result.error)
      }`,
    );
  }

  async #perform(
    method: Method,
    params: Record<string, unknown>,
  ): Promise<unknown> {
    try {
      return await method.handler(params);
    } catch (error) {
      if (error instanceof RpcError) throw error;
      const { kind } = error as { kind?: unknown };
      const refused = error instanceof HostError || typeof kind === "string";
      throw new RpcError(
        refused ? REFUSED : INTERNAL_ERROR,
        messageOf(error),
        refused ? { kind } : undefined,
      );
    }
  }

  /** An OpenRPC 1.3 document of all methods. */
  describe(): OpenRpcDocument {
    return {
      openrpc: "1.3.2",
      info: this.#info,
      methods: Array.from(this.#methods, ([name, method]) => ({
        name,
        summary: method.summary,
        paramStructure: "by-name",
        params: parametersOf(method.params),
        result: { name: "result", schema: z.toJSONSchema(method.result) },
      })),
    };
  }
}

/** The description that `rpc.discover` returns. */
export interface OpenRpcDocument extends Record<string, unknown> {
  /** Version of the OpenRPC specification. */
  readonly openrpc: string;
  /** What the server is. */
  readonly info: { readonly title: string; readonly version: string };
  /** One entry for each method. */
  readonly methods: readonly OpenRpcMethod[];
}

/** A method in an {@linkcode OpenRpcDocument}. */
export interface OpenRpcMethod {
  /** Name. */
  readonly name: string;
  /** One line for people. */
  readonly summary: string;
  /** Always `by-name`. */
  readonly paramStructure: string;
  /** The parameters, each with its JSON schema. */
  readonly params: readonly {
    readonly name: string;
    readonly required: boolean;
    readonly schema: unknown;
  }[];
  /** The result and its JSON schema. */
  readonly result: { readonly name: string; readonly schema: unknown };
}

function parametersOf(params: z.ZodObject): OpenRpcMethod["params"] {
  const { properties = {}, required = [] } = z.toJSONSchema(params, {
    io: "input",
  });
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    required: required.includes(name),
    schema,
  }));
}
