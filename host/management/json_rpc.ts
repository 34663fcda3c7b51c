/**
 * The JSON-RPC 2.0 envelope: from the text of a request to the text of its
 * response. Pure; knows neither sockets nor methods.
 *
 * @module
 */

import { z } from "zod";
import { didYouMean } from "../../backends/suggest.ts";

/** The text is no JSON. */
export const PARSE_ERROR = -32700;
/** The JSON is no request. */
export const INVALID_REQUEST = -32600;
/** There is no method of that name. */
export const METHOD_NOT_FOUND = -32601;
/** The method takes other parameters. */
export const INVALID_PARAMS = -32602;
/** The method failed unexpectedly. */
export const INTERNAL_ERROR = -32603;
/** The method refused, for a reason that its message tells. */
export const REFUSED = -32000;

/** Requests in one batch, at most. */
export const MAXIMUM_BATCH = 64;

/** An error as a response carries it. */
export class RpcError extends Error {
  /** One of the codes of this module. */
  readonly code: number;
  /** What else there is to say: a JSON value. */
  readonly data?: unknown;

  /** Makes an error. */
  constructor(code: number, message: string, data?: unknown) {
    super(message);
    this.name = "RpcError";
    this.code = code;
    this.data = data;
  }
}

const Id = z.union([z.string(), z.number(), z.null()]);

/** One request; members that the specification does not name are ignored. */
const RpcRequest = z.object({
  jsonrpc: z.literal("2.0"),
  method: z.string(),
  params: z.optional(
    z.union([z.array(z.unknown()), z.record(z.string(), z.unknown())]),
  ),
  id: z.optional(Id),
});

/** One response, as a client gets it. */
export const RpcResponse = z.union([
  z.object({ jsonrpc: z.literal("2.0"), result: z.unknown(), id: Id })
    .refine((response) => "result" in response),
  z.object({
    jsonrpc: z.literal("2.0"),
    error: z.object({
      code: z.int(),
      message: z.string(),
      data: z.optional(z.unknown()),
    }),
    id: Id,
  }),
]);

/** The ID of a request. */
export type RpcId = z.infer<typeof Id>;

/**
 * Calls a method.
 *
 * @returns the result: a JSON value
 * @throws {RpcError} when there is none
 */
export type Call = (method: string, params: unknown) => Promise<unknown>;

/**
 * Answers one message: a request, a notification or a batch of them. The
 * requests of a batch are performed one after the other.
 *
 * @returns the response, or `null` where none is due
 */
export async function answer(text: string, call: Call): Promise<string | null> {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    return failure(null, new RpcError(PARSE_ERROR, `No JSON: ${problem}`));
  }
  if (!Array.isArray(message)) return await answerOne(message, call);
  if (message.length === 0 || message.length > MAXIMUM_BATCH) {
    const problem =
      `A batch of ${message.length} requests: 1 to ${MAXIMUM_BATCH} are possible`;
    return failure(null, new RpcError(INVALID_REQUEST, problem));
  }
  const responses: string[] = [];
  for (const each of message) {
    const response = await answerOne(each, call);
    if (response !== null) responses.push(response);
  }
  return responses.length === 0 ? null : `[${responses.join(",")}]`;
}

async function answerOne(message: unknown, call: Call): Promise<string | null> {
  const request = RpcRequest.safeParse(message);
  if (!request.success) {
    return failure(
      idOf(message),
      new RpcError(
        INVALID_REQUEST,
        `No JSON-RPC 2.0 request: ${issuesOf(request.error)}`,
      ),
    );
  }
  const { method, params, id } = request.data;
  try {
    const result = await call(method, params);
    if (id === undefined) return null;
    return JSON.stringify({ jsonrpc: "2.0", result: result ?? null, id });
  } catch (error) {
    if (id === undefined) return null;
    if (error instanceof RpcError) return failure(id, error);
    const problem = error instanceof Error ? error.message : String(error);
    return failure(id, new RpcError(INTERNAL_ERROR, problem));
  }
}

/** The response that carries an error. */
export function failure(id: RpcId, error: RpcError): string {
  const { code, message, data } = error;
  return JSON.stringify({ jsonrpc: "2.0", error: { code, message, data }, id });
}

/** The ID of something that is no request, as far as there is one. */
function idOf(message: unknown): RpcId {
  if (typeof message !== "object" || message === null) return null;
  const id = Id.safeParse((message as { id?: unknown }).id);
  return id.success ? id.data : null;
}

/**
 * What a value is not, in one line.
 *
 * @param known the names of its members, to suggest one for a wrong one
 */
export function issuesOf(
  error: z.ZodError,
  known: readonly string[] = [],
): string {
  return error.issues.map((issue) => {
    const { path, message } = issue;
    if (path.length > 0) return `${path.join(".")}: ${message}`;
    if (issue.code !== "unrecognized_keys") return message;
    const [key] = issue.keys;
    return message + (didYouMean(key, known) || namesOf(known));
  }).join("; ");
}

function namesOf(known: readonly string[]): string {
  return known.length === 0
    ? "; there are none here"
    : `; there are ${known.join(", ")}`;
}
