import { brotliCompressSync, gzipSync } from "node:zlib";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import tailwindcss from "@tailwindcss/vite";
import { defineConfig, type Plugin } from "vite";

// Where `npm run dev` finds a running gateway.
const gateway = process.env.GATEWAY_URL ?? "http://127.0.0.1:8080";

/** Emits compressed copies of each script and style sheet, which aiohttp serves to browsers that accept them. */
const compress: Plugin = {
  name: "compress",
  apply: "build",
  enforce: "post",
  generateBundle(_options, bundle) {
    for (const file of Object.values(bundle)) {
      if (!/\.(js|css)$/.test(file.fileName)) continue;
      const source = file.type === "chunk" ? file.code : file.source;
      this.emitFile({ type: "asset", fileName: `${file.fileName}.br`, source: brotliCompressSync(source) });
      this.emitFile({ type: "asset", fileName: `${file.fileName}.gz`, source: gzipSync(source, { level: 9 }) });
    }
  },
};

export default defineConfig({
  plugins: [tailwindcss(), svelte(), compress],
  // Relative, so that a proxy may serve the page under any path.
  base: "./",
  build: {
    outDir: "../gateway/static",
    emptyOutDir: true,
    // The gateway's Content-Security-Policy allows only files of its own origin, and no data: URL.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      "/socket.io": { target: gateway, ws: true },
      "/username": { target: gateway, ws: true },
    },
  },
});
