/**
 * The path that a file URL names.
 *
 * @param url The URL.
 * @returns Its path, with the escapes decoded.
 * @throws {TypeError} When the URL is none, or its scheme is not `file:`.
 */
export function fromFileUrl(url: string | URL): string {
  const { pathname, protocol } = new URL(url);
  if (protocol !== "file:") {
    throw new TypeError(
      `URL must be a file URL: received "${protocol}"`,
    );
  }
  // A percent sign that begins no escape stands for itself.
  return decodeURIComponent(pathname.replaceAll(/%(?![\da-f]{2})/gi, "%25"));
}
