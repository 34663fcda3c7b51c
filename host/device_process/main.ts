/**
 * Entry of a device process. The supervisor starts it; see
 * `host/supervisor/protocol.ts` for the descriptors that it comes with.
 *
 * @module
 */

import { UnixSocket } from "../../sys/unix_socket.ts";
import { CONTROL_FD, LOG_FD } from "../supervisor/protocol.ts";
import { serveDevices } from "./serve_devices.ts";

if (import.meta.main) {
  Deno.exit(await serveDevices(UnixSocket.adopt(CONTROL_FD), LOG_FD));
}
