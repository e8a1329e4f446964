// The driver in jsdom: a page without a screen. The SDK is loaded as it is; window.open gives it a window that is played here,
// with cookies of its own.
import {readFileSync} from 'node:fs'
import {request} from 'node:http'
import {createRequire} from 'node:module'
import {env, step, walk, within} from './walk.mjs'

const {JSDOM, VirtualConsole} = createRequire(import.meta.url)('jsdom')
const bundle = readFileSync(new URL('node_modules/@useparagon/connect/dist/src/index.js', import.meta.url), 'utf8')
const helpers = readFileSync(new URL('inpage.js', import.meta.url), 'utf8')

// local refuses every address that is not on loopback.
function local(address) {
  const {hostname} = new URL(address)
  if (hostname !== '127.0.0.1' && hostname !== 'localhost' && !hostname.endsWith('.localhost')) {
    throw new Error(`a request to ${hostname}, which is not on loopback`)
  }
  return address
}

let window, choice, jar = new Map()

// navigate asks for a page as a browser's window does, which fetch cannot.
const navigate = (address, headers) => new Promise((resolve, reject) => {
  request(address, {headers: {'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-Dest': 'document', ...headers}}, response => {
    let text = ''
    response.setEncoding('utf8').on('data', part => { text += part }).on('error', reject)
      .on('end', () => resolve({status: response.statusCode, headers: response.headers, text}))
  }).on('error', reject).end()
})

// Popup is the window of an OAuth flow: it follows redirects, keeps cookies, and loses its opener where a browser would.
class Popup {
  closed = false
  address = '' // of the page that it shows
  constructor(address) {
    this.opener = window
    this.done = this.#go(address, env.app + '/')
    const self = this
    this.location = {set href(to) { self.done = self.#go(to, self.address) }}
  }
  close() { this.closed = true }
  async #go(address, referer) {
    for (;;) {
      const {status, headers, text} = await navigate(local(address), {
        Cookie: [...jar].map(c => c.join('=')).join('; '), ...referer && {Referer: new URL(referer).origin + '/'},
      })
      for (const cookie of headers['set-cookie'] ?? []) jar.set(...cookie.split(';')[0].split(/=(.*)/s, 2))
      if (headers['cross-origin-opener-policy'] === 'same-origin') this.opener = null
      this.address = address
      if (status >= 300 && status < 400) {
        referer = headers['referrer-policy'] === 'no-referrer' ? undefined : referer
        address = new URL(headers.location, address).href
      } else if (address.startsWith(`${env.provider}/consent?`)) {
        const query = new URL(address).search
        address = choice === 'deny' ? `${env.provider}/deny${query}` : `${env.provider}/authorize${query}&login_hint=${choice}`
      } else {
        if (text.includes('oauth-nonce-loaded') && this.opener) {
          window.dispatchEvent(new window.MessageEvent('message', {data: {type: 'oauth-nonce-loaded'}, origin: new URL(address).origin}))
        }
        return
      }
    }
  }
}

// open loads the page; state is what a page before has left in localStorage, its addresses included.
async function open(state) {
  const virtualConsole = new VirtualConsole() // what the SDK complains about is what the walk provokes
  const dom = new JSDOM('<!doctype html><body></body>', {url: env.app + '/', runScripts: 'outside-only', virtualConsole})
  window = dom.window
  for (const [key, value] of Object.entries(state ?? {})) window.localStorage.setItem(key, value)
  Object.assign(window, {
    fetch: (address, options) => fetch(local(address), options), Headers, Request, Response, AbortController,
    open: address => window.popup = new Popup(address),
  })
  if (window.document.readyState === 'loading') {
    await new Promise(resolve => window.document.addEventListener('DOMContentLoaded', resolve))
  }
  window.eval(`(() => { const module = {exports: {}}; let exports = module.exports; ${bundle}; window.paragon = module.exports.paragon })()`)
  if (!state) configure()
  window.eval(helpers)
}

function configure() {
  const at = Object.fromEntries(['CONNECT', 'DASHBOARD', 'HERMES', 'PASSPORT', 'ZEUS', 'CDN', 'WORKER_PROXY', 'API_TRIGGER_KIT']
    .map(service => [`${service}_PUBLIC_URL`, env.http]))
  window.paragon.configureGlobal({host: new URL(env.http).host}, {...at, PASSPORT_PRODUCTION_URL: env.http})
}

// ours makes of an object of the page's realm one of this, which assert can compare.
const ours = async promise => JSON.parse(JSON.stringify(await promise))

await open()
await step('docs/http-api.md tells of every function of the SDK', async () => {
  const text = readFileSync(new URL('../../docs/http-api.md', import.meta.url), 'utf8')
  const untold = Object.keys(window.paragon).filter(name => !name.startsWith('_') && !new RegExp(`\\b${name}\\b`).test(text))
  if (untold.length > 0) throw new Error(`it does not name ${untold.join(', ')}`)
})
await walk({
  call: (method, args) => ours(window.call(method, args)),
  authenticate: (...args) => ours(window.authenticate(...args)),
  heard: () => ours(window.heard),
  install: (name, options, login) => {
    choice = login
    return within(30_000, ours(window.call('installIntegration', [name, options])))
  },
  flow: (name, options, pre, post, login) => {
    choice = login
    return ours(window.flow(name, options, pre, post))
  },
  // code is what a provider gives out by itself, from its own pages.
  code: async (login, redirect) => {
    const query = new URLSearchParams({response_type: 'code', client_id: 'demo-client', redirect_uri: redirect, state: 'x', scope: 'openid', login_hint: login})
    const response = await fetch(`${env.provider}/authorize?${query}`, {redirect: 'manual'})
    return new URL(response.headers.get('Location')).searchParams.get('code')
  },
  redirected: async (name, options, login) => {
    choice = login
    window.popup = undefined
    window.call('installIntegration', [name, options]).catch(() => {}) // nobody waits for it: the page that is redirected to goes on
    while (!window.popup) await new Promise(resolve => setTimeout(resolve, 10))
    const {popup} = window
    while (!popup.address.startsWith(env.redirect)) await new Promise(resolve => setTimeout(resolve, 10))
    return new URL(popup.address).searchParams.get('code')
  },
  reload: async () => {
    const state = Object.fromEntries(Object.keys(window.localStorage).map(key => [key, window.localStorage.getItem(key)]))
    window.close()
    await open(state)
  },
  until: async look => {
    for (let i = 0; i < 100; i++) {
      const found = await look()
      if (found) return found
      await new Promise(resolve => setTimeout(resolve, 100))
    }
    throw new Error('it did not come about within 10 s')
  },
})
process.exit(0)
