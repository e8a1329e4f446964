// The driver in Chromium: a page of the application, and the real windows that it opens.
import assert from 'node:assert/strict'
import {readFileSync} from 'node:fs'
import {createRequire} from 'node:module'
import {env, rest, step, stored, walk, within} from './walk.mjs'

const {chromium} = createRequire(import.meta.url)('playwright-core')
const helpers = readFileSync(new URL('inpage.js', import.meta.url), 'utf8')

const browser = await chromium.launch({
  executablePath: env.chromium,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
    '--disable-sync', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1'],
})

// strays are requests that would have left the machine. The SDK asks for one page of its default host when it is loaded, before
// anybody can configure it; that one cannot be resolved here and does no harm.
const strays = new Set()
async function newContext() {
  const context = await browser.newContext({ignoreHTTPSErrors: true})
  context.on('request', request => {
    const {protocol, hostname, origin, pathname} = new URL(request.url())
    if (!protocol.startsWith('http') && !protocol.startsWith('ws')) return
    if (hostname === '127.0.0.1' || hostname === 'localhost' || hostname.endsWith('.localhost')) return
    if (origin + pathname === 'https://connect.useparagon.com/ui') return
    strays.add(request.url())
  })
  return context
}

const context = await newContext()
const page = await context.newPage()

async function load() {
  await page.waitForFunction(() => window.paragon)
  await page.evaluate(helpers)
}

const services = ['CONNECT', 'DASHBOARD', 'HERMES', 'PASSPORT', 'ZEUS', 'CDN', 'WORKER_PROXY', 'API_TRIGGER_KIT']

async function configure() {
  if (env.mode === 'host') {
    await page.evaluate(host => window.paragon.configureGlobal({host}), new URL(env.public).host.replace(/^zeus\./, ''))
    return
  }
  const at = {...Object.fromEntries(services.map(s => [`${s}_PUBLIC_URL`, env.public])), PASSPORT_PRODUCTION_URL: env.public}
  await page.evaluate(([host, at]) => window.paragon.configureGlobal({host}, at), [new URL(env.public).host, at])
}

// popup is the window that opens next, at the page where a person consents.
const nextPopup = () => page.waitForEvent('popup', {timeout: 15_000})

async function consent(popup, login) {
  await popup.waitForURL(`${env.provider}/consent?**`, {timeout: 15_000})
  assert.equal(await popup.evaluate(() => window.opener), null, 'the provider has our opener')
  // The last page closes the window by itself, unless it has to tell what went wrong.
  const ended = login === 'deny' ? popup.waitForURL(`${env.public}/callback/**`, {timeout: 15_000}) : popup.waitForEvent('close', {timeout: 15_000})
  await popup.click(`#${login}`)
  await ended
}

async function inWindow(login, work) {
  const opening = login && nextPopup()
  const answer = work()
  answer.catch(() => {}) // it is awaited below, unless the window fails first
  let popup
  if (opening) await consent(popup = await opening, login)
  const done = await within(30_000, answer)
  await popup?.close() // which does nothing to a window that is closed
  return done
}

const call = (method, args) => page.evaluate(([method, args]) => window.call(method, args), [method, args])

await page.goto(env.app + '/')
await load()
await configure()
const {bob} = await walk({
  call,
  authenticate: (...args) => page.evaluate(args => window.authenticate(...args), args),
  heard: () => page.evaluate(() => window.heard),
  install: (name, options, login) => inWindow(login, () => call('installIntegration', [name, options])),
  flow: (name, options, pre, post, login) =>
    inWindow(login, () => page.evaluate(args => window.flow(...args.map(a => a ?? undefined)), [name, options, pre ?? null, post ?? null])),
  code: async (login, redirect) => {
    const query = new URLSearchParams({response_type: 'code', client_id: 'demo-client', redirect_uri: redirect, state: 'x', scope: 'openid', login_hint: login})
    const response = await fetch(`${env.provider}/authorize?${query}`, {redirect: 'manual'})
    return new URL(response.headers.get('Location')).searchParams.get('code')
  },
  redirected: async (name, options, login) => {
    const opening = nextPopup()
    call('installIntegration', [name, options]).catch(() => {}) // nobody waits for it: the page that is redirected to goes on
    const popup = await opening
    await popup.waitForURL(`${env.provider}/consent?**`)
    await popup.click(`#${login}`)
    await popup.waitForURL(`${env.redirect}?**`)
    const code = new URL(popup.url()).searchParams.get('code')
    await popup.close()
    return code
  },
  reload: async () => {
    await page.reload()
    await load()
  },
  until,
})

async function until(look) {
  for (let i = 0; i < 100; i++) {
    const found = await look()
    if (found) return found
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  throw new Error('it did not come about within 10 s')
}

await step('two windows at once', async () => {
  const before = (await rest('GET', '/credentials')).body.length
  const open = async (integration, externalId) => {
    const opening = nextPopup()
    const answer = call('installIntegration', [integration, {allowMultipleCredentials: true, externalId}])
    answer.catch(() => {})
    const popup = await opening
    await popup.waitForURL(`${env.provider}/consent?**`, {timeout: 15_000})
    return {popup, answer}
  }
  const one = await open('googleCalendar', 'one'), two = await open('slack', 'two')
  await consent(one.popup, 'ada')
  await consent(two.popup, 'ada')
  for (const {answer} of [one, two]) assert.equal((await within(30_000, answer)).error, undefined)
  const all = (await rest('GET', '/credentials')).body
  assert.equal(all.length, before + 2)
  assert.deepEqual(['one', 'two'].map(name => all.find(c => c.externalId === name).integration), ['googleCalendar', 'slack'])
})

await step('security 2: a hostile provider gets neither the opener nor the token', async () => {
  const opening = nextPopup()
  const pending = call('installIntegration', ['hostile', {}])
  pending.catch(() => {}) // it stays pending until the page is gone
  const popup = await opening
  await popup.waitForURL(`${env.hostile}/authorize?**`)
  const arrivals = await until(async () => {
    const got = await (await fetch(`${env.hostile}/got`)).json()
    return got.some(a => a.Path === '/report') && got
  })
  await new Promise(resolve => setTimeout(resolve, 500)) // what the page asked for would be under way by now
  assert.equal(arrivals.find(a => a.Path === '/report').Report, 'alone,0,')
  const got = await (await fetch(`${env.hostile}/got`)).json()
  assert.deepEqual(got.map(a => a.Path).sort(), ['/authorize', '/report'])
  assert.ok(got.every(a => a.Authorization === ''), JSON.stringify(got))
  assert.equal(got.find(a => a.Path === '/authorize').Referer, '')
  await popup.close()
  assert.equal((await call('getUser', [])).ok.authenticated, true)
})

await step('the hostile page gets the token of a page that opens it by itself: the step before can fail', async () => {
  const careless = await newContext()
  const victim = await careless.newPage()
  await victim.goto(env.app + '/')
  await victim.waitForFunction(() => window.paragon)
  await victim.evaluate(helpers)
  const at = {...Object.fromEntries(services.map(s => [`${s}_PUBLIC_URL`, env.http])), PASSPORT_PRODUCTION_URL: env.http}
  await victim.evaluate(([host, at]) => window.paragon.configureGlobal({host}, at), [new URL(env.http).host, at])
  assert.equal((await victim.evaluate(args => window.authenticate(...args), [env.project, env.tokens.stranger])).error, undefined)
  await victim.evaluate(address => { window.open(address) }, `${env.hostile}/authorize`)
  const stolen = await until(async () => (await (await fetch(`${env.hostile}/got`)).json()).find(a => a.Path === '/steal' && a.Method === 'GET'))
  assert.equal(stolen.Authorization, `Bearer ${env.tokens.stranger}`)
  await careless.close()
})

// begin starts a flow without the SDK, and returns where its window goes.
async function begin(integration) {
  const query = new URLSearchParams({action: integration, oauthMetaKeyId: `key-${Math.random()}`, installOptions: '{"allowMultipleCredentials":true}'})
  const response = await fetch(`${env.http}/v2/projects/${env.project}/sdk/actions/build-oauth?${query}`, {headers: {Authorization: `Bearer ${env.tokens.user}`}})
  assert.equal(response.status, 200)
  return (await response.json()).redirectUrl
}

await step('security 1: a link that was forwarded leads nowhere', async () => {
  const hop = await begin('slack')
  const other = await newContext()
  const foreign = await other.newPage()
  const refused = await foreign.goto(hop)
  assert.equal(refused.status(), 422)
  assert.ok(foreign.url().startsWith(env.public), `it went on to ${foreign.url()}`)
  // The page before it, with the token in its address, asks first: who opens it did not come from the application.
  const query = new URLSearchParams({action: 'slack', originForPostMessage: env.app, userToken: env.tokens.user})
  await foreign.goto(`${env.public}/projects/${env.project}/sdk/actions/oauth-nonce?${query}`)
  const text = await foreign.textContent('body')
  for (const name of ['Zeppelin', 'user-1', 'Slack']) assert.ok(text.includes(name), `the page does not name ${name}: ${text}`)
  assert.deepEqual(await other.cookies(), [])
  await other.close()
})

await step('security 1: another browser at the callback gets nothing', async () => {
  const before = (await rest('GET', '/credentials')).body.length
  const opening = nextPopup()
  const answer = call('installIntegration', ['googleCalendar', {allowMultipleCredentials: true, externalId: 'mine'}])
  const popup = await opening
  await popup.waitForURL(`${env.provider}/consent?**`)
  const link = await popup.getAttribute('#cyd', 'href')
  const sent = await fetch(env.provider + link, {redirect: 'manual'})
  const callback = sent.headers.get('Location')
  const other = await newContext()
  const foreign = await other.newPage()
  const refused = await foreign.goto(callback)
  assert.equal(refused.status(), 422)
  await other.close()
  assert.equal((await rest('GET', '/credentials')).body.length, before)
  await popup.goto(callback).catch(() => {}) // it closes itself
  assert.equal((await within(30_000, answer)).error, undefined)
  await popup.close()
  assert.ok(await stored('ext:mine') ?? await stored('mine'))
  assert.equal((await stored(bob)).status, 'VALID')
})

await step('the page of the demo, as somebody new clicks it', async () => {
  const demo = await context.newPage()
  await demo.goto(env.demo)
  const slack = demo.locator('section', {has: demo.locator('h2', {hasText: 'Slack'})})
  const opening = demo.waitForEvent('popup')
  await slack.locator('button', {hasText: 'Connect an account'}).click()
  await consent(await opening, 'ada')
  const item = slack.locator('li', {hasText: 'ada@example.com'})
  await item.locator('button', {hasText: 'Act as this account'}).click()
  await demo.waitForFunction(() => document.getElementById('said').textContent.includes('"account": "ada@example.com"'))
  await item.locator('button', {hasText: 'Disconnect'}).click()
  await item.waitFor({state: 'detached'})
  await demo.close()
})

await step('nothing left the machine', async () => assert.deepEqual([...strays], []))

await browser.close()
process.exit(0)
