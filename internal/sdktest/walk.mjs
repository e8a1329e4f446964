// The walk: every step that an application takes with the SDK. A driver d runs it in a page: jsdom.mjs or browser.mjs.
import assert from 'node:assert/strict'

export const env = JSON.parse(process.env.SDKTEST)

// step runs one part of the walk, and reports it as a line of JSON. Later parts stand on earlier ones, so the first that fails
// ends the walk.
export async function step(name, run) {
  const began = Date.now()
  let error
  try {
    await within(60_000, run())
  } catch (failed) {
    error = failed.stack ?? String(failed)
  }
  console.log(JSON.stringify({step: name, took: Date.now() - began, error}))
  if (error) process.exit(1)
}

export async function within(ms, promise) {
  let timer
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`not done within ${ms} ms`)), ms) })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

// rest makes a request of its own, to see what the server has stored.
export async function rest(method, path, {token = env.tokens.user, headers = {}, body} = {}) {
  const response = await fetch(`${env.http}/projects/${env.project}/sdk${path}`, {
    method, body: body && JSON.stringify(body),
    headers: {Authorization: `Bearer ${token}`, ...body && {'Content-Type': 'application/json'}, ...headers},
  })
  const text = await response.text()
  return {status: response.status, body: text ? JSON.parse(text) : undefined}
}

// stored is what the server has of an account.
export async function stored(id) {
  const {status, body} = await rest('GET', `/credentials/${id}`)
  return status === 200 ? body : undefined
}

// lastCall is the request that the provider's API saw last.
export async function lastCall() {
  const calls = await (await fetch(`${env.provider}/seen`)).json()
  return calls.at(-1)
}

const ok = answer => {
  assert.equal(answer.error, undefined, `the SDK failed: ${JSON.stringify(answer.error)}`)
  return answer.ok
}
const refused = (answer, words) => {
  assert.ok(answer.error, `the SDK accepted it: ${JSON.stringify(answer.ok)}`)
  assert.match(answer.error.message, words)
  return answer.error
}

export async function walk(d) {
  const sdk = (method, ...args) => d.call(method, args)
  const user = async () => ok(await sdk('getUser'))
  let ada, bob, calendar

  await step('authenticate, getUser, metadata of the user', async () => {
    ok(await d.authenticate(env.project, env.tokens.user, {metadata: {Name: 'Una', Email: 'una@example.com'}}))
    const me = await user()
    assert.equal(me.authenticated, true)
    assert.equal(me.userId, 'user-1')
    assert.deepEqual(Object.keys(me.integrations).sort(), ['custom.mycrm', 'googleCalendar', 'googledrive', 'hostile', 'slack'])
    assert.equal(me.integrations.googleCalendar.enabled, false)
    assert.deepEqual((await rest('GET', '/me')).body.meta, {Name: 'Una', Email: 'una@example.com'})
    ok(await sdk('setUserMetadata', {Name: 'Una', plan: 'gold'}))
    assert.equal((await rest('GET', '/me')).body.meta.plan, 'gold')
  })

  await step('metadata of integrations', async () => {
    const all = ok(await sdk('getIntegrationMetadata'))
    const one = all.find(m => m.type === 'googleCalendar')
    assert.equal(one.name, 'Google Calendar')
    const custom = ok(await sdk('getIntegrationMetadata', 'custom.mycrm'))
    assert.equal(custom.name, 'My CRM')
    const config = ok(await sdk('getIntegrationConfig', 'googleCalendar'))
    assert.deepEqual(config.availableUserSettings.map(s => s.id), ['calendar', 'notify', 'feed'])
    calendar = ok(await sdk('getIntegrationId', 'googleCalendar'))
    assert.match(calendar, /^[0-9a-f-]{36}$/)
    assert.deepEqual(ok(await sdk('getPreOptions', 'custom.mycrm')).map(o => o.id), ['apiKey'])
    assert.deepEqual(ok(await sdk('getPostOptions', 'googledrive')).map(o => o.id), ['folder'])
    assert.deepEqual(ok(await sdk('getAccountTypeOptions', 'googleCalendar')), [])
    const picture = ok(await sdk('getAssetUrl', 'salesforce-install-package'))
    assert.equal((await fetch(picture.replace(/^.*\/images/, `${env.http}/images`))).status, 200)
    assert.equal((await fetch(one.icon.replace(/^.*\/integrations/, `${env.http}/integrations`))).status, 200)
  })

  await step('installIntegration: the first account', async () => {
    const event = ok(await d.install('googleCalendar', {}, 'ada'))
    const me = await user()
    const accounts = me.integrations.googleCalendar.allCredentials
    assert.equal(accounts.length, 1)
    ada = accounts[0].id
    assert.equal(event.credentialId ?? ada, ada)
    assert.equal(accounts[0].status, 'VALID')
    assert.equal(accounts[0].providerData.displayName, 'ada@example.com')
    assert.equal((await stored(ada)).providerId, 'ada')
  })

  await step('installIntegration: a second, with allowMultipleCredentials and externalId', async () => {
    ok(await d.install('googleCalendar', {allowMultipleCredentials: true, externalId: 'work'}, 'bob'))
    const accounts = (await user()).integrations.googleCalendar.allCredentials
    assert.equal(accounts.length, 2)
    bob = accounts.find(c => c.externalId === 'work').id
    assert.notEqual(ada, bob)
    const [first, second] = [await stored(ada), await stored(bob)]
    assert.deepEqual([first.providerId, second.providerId, first.externalId, second.externalId], ['ada', 'bob', undefined, 'work'])
    assert.notEqual(first.configurations[0].id, second.configurations[0].id)
    assert.ok((await d.heard()).some(([event, type]) => event === 'onIntegrationInstall' && type === 'googleCalendar'))
  })

  await step('installIntegration: without the flag it is refused in the browser', async () => {
    refused(await sdk('installIntegration', 'googleCalendar', {}), /already installed/)
    assert.equal((await user()).integrations.googleCalendar.allCredentials.length, 2)
  })

  await step('request: exactly the account that is named', async () => {
    for (const [selectedCredentialId, account] of [[ada, 'ada'], [bob, 'bob'], ['work', 'bob'], ['ext:work', 'bob']]) {
      const answer = ok(await sdk('request', 'googleCalendar', '/events?top=1', {method: 'POST', body: {title: account}, selectedCredentialId}))
      assert.equal(answer.account, `${account}@example.com`)
      assert.deepEqual(await lastCall(), {
        account: `${account}@example.com`, method: 'POST', path: '/events', query: 'top=1', body: JSON.stringify({title: account}),
        contentType: 'application/json',
      })
    }
    const text = ok(await sdk('request', 'googleCalendar', '/text', {method: 'GET', selectedCredentialId: bob}))
    assert.equal(text, 'plain bob@example.com')
  })

  await step('request: none is named, and there are two', async () => {
    const before = await lastCall()
    const error = refused(await sdk('request', 'googleCalendar', '/events', {method: 'GET'}), /account/i)
    assert.equal(error.response.code, 'ambiguous')
    assert.deepEqual(error.response.meta.candidates.map(c => c.id).sort(), [ada, bob].sort())
    assert.deepEqual(await lastCall(), before)
  })

  await step('request: the provider refuses with 401 and 403, and nobody is logged out', async () => {
    for (const status of [403, 404, 500, 401]) {
      const {response} = refused(await sdk('request', 'googleCalendar', `/status/${status}`, {method: 'GET', selectedCredentialId: ada}), /./)
      assert.equal(response.message, 'this is what was asked for')
      assert.deepEqual(response.output, {message: 'this is what was asked for', status})
      assert.equal((await user()).authenticated, true)
    }
  })

  await step('event and workflow that there are not', async () => {
    refused(await sdk('event', 'Contact Created', {id: 1}), /There is no such event/)
    refused(await sdk('workflow', '01930000-0000-7000-8000-000000000000', {body: {}}), /not found/i)
    assert.equal((await user()).authenticated, true)
  })

  await step('configurations', async () => {
    const made = ok(await sdk('createConfiguration', {credentialId: bob, externalId: 'team'}))
    assert.equal(made.externalId, 'team')
    let all = (await stored(bob)).configurations
    assert.equal(all.length, 2)
    ok(await sdk('updateConfiguration', {credentialId: bob, id: made.id, meta: {colour: 'red'}}))
    all = (await stored(bob)).configurations
    assert.deepEqual(all.find(c => c.id === made.id).configMeta, {colour: 'red'})
    ok(await sdk('destroyConfiguration', {credentialId: bob, id: made.id}))
    assert.equal((await stored(bob)).configurations.length, 1)
  })

  await step('settings of one account', async () => {
    ok(await sdk('updateIntegrationUserSettings', 'googleCalendar', {calendar: 'home-bob'}, {selectedCredentialId: bob}))
    ok(await sdk('updateIntegrationUserSettings', 'googleCalendar', {notify: false}, {selectedCredentialId: bob}))
    const settings = async id => (await stored(id)).configurations.find(c => c.isDefault).sharedSettings
    assert.deepEqual(await settings(bob), {calendar: 'home-bob', notify: false})
    assert.deepEqual(await settings(ada), {notify: true})
    ok(await sdk('updateIntegrationUserSettings', 'googleCalendar', {feed: 'canary'}, {selectedCredentialId: bob}))
    assert.equal((await settings(bob)).feed, undefined)
    refused(await sdk('updateIntegrationUserSettings', 'googleCalendar', {calendar: 7}, {selectedCredentialId: bob}), /calendar/)
  })

  await step('getFieldOptions, getIntegrationAccount, getTriggers', async () => {
    const options = ok(await sdk('getFieldOptions', {integration: 'googleCalendar', action: 'calendars', selectedCredentialId: bob, search: 'home'}))
    assert.deepEqual(options.data.map(({label, value}) => [label, value]), [['Home of bob@example.com', 'home-bob@example.com']])
    assert.equal((await lastCall()).account, 'bob@example.com')
    const account = ok(await sdk('getIntegrationAccount', 'googleCalendar', {selectedCredentialId: 'ext:work', includeAccountAuth: false}))
    assert.equal(account.providerData.displayName, 'bob@example.com')
    assert.deepEqual(ok(await sdk('getTriggers', 'googleCalendar', {selectedCredentialId: bob})).triggers, {googleCalendar: []})
  })

  await step('headless: an API key', async () => {
    ok(await sdk('setHeadless', true))
    const {stages, result, error} = await within(30_000, d.flow('custom.mycrm', {}, {apiKey: 'key-cyd'}))
    assert.equal(error, undefined, JSON.stringify(error))
    assert.deepEqual(stages, ['preOptions'])
    const [account] = (await user()).integrations['custom.mycrm'].allCredentials
    assert.equal(result.credentialId ?? account.id, account.id)
    assert.equal((await stored(account.id)).providerId, 'cyd')
    assert.equal(ok(await sdk('request', 'custom.mycrm', '/deals', {method: 'GET'})).account, 'cyd@example.com')
  })

  await step('headless: an API key that the provider rejects', async () => {
    const {error} = await within(30_000, d.flow('custom.mycrm', {allowMultipleCredentials: true}, {apiKey: 'wrong'}))
    assert.equal(error?.stage, 'preOptions', JSON.stringify(error))
    assert.match(error.message, /key/i)
    assert.equal((await user()).integrations['custom.mycrm'].allCredentials.length, 1)
    assert.equal((await user()).authenticated, true)
  })

  await step('headless: OAuth, and a question behind it', async () => {
    const {stages, error} = await within(60_000, d.flow('googledrive', {}, undefined, {folder: 'Plans'}, 'ada'))
    assert.equal(error, undefined, JSON.stringify(error))
    assert.deepEqual(stages, ['oauth', 'postOptions'])
    const [account] = (await user()).integrations.googledrive.allCredentials
    const now = await stored(account.id)
    assert.equal(now.status, 'VALID')
    assert.equal((await sdk('request', 'googledrive', '/files', {method: 'GET'})).ok.account, 'ada@example.com')
  })

  await step('tokens for file pickers: only of the integration that gives them', async () => {
    const picker = ok(await sdk('getIntegrationAccount', 'googledrive', {includeAccountAuth: true}))
    const token = picker.accountAuth.OAUTH_ACCESS_TOKEN
    const me = await (await fetch(`${env.provider}/api/me`, {headers: {Authorization: `Bearer ${token}`}})).json()
    assert.equal(me.account, 'ada@example.com')
    const {body, status} = await rest('GET', '/credentials?integration=googleCalendar&includeAccountAuth=true', {headers: {'X-Paragon-Credential': bob}})
    assert.equal(status, 403)
    assert.equal(body.accountAuth, undefined)
  })

  await step('headless: the person says no', async () => {
    const {error} = await within(60_000, d.flow('googleCalendar', {allowMultipleCredentials: true}, undefined, undefined, 'deny'))
    assert.equal(error?.stage, 'oauth', JSON.stringify(error))
    assert.match(error.message, /cancel|denied|refused|agree|consent|decline/i)
    assert.equal((await user()).integrations.googleCalendar.allCredentials.length, 2)
    ok(await sdk('setHeadless', false))
  })

  await step('uninstallIntegration: one goes, the other stays', async () => {
    ok(await sdk('uninstallIntegration', 'googleCalendar', {selectedCredentialId: ada}))
    assert.equal(await stored(ada), undefined)
    assert.equal((await stored(bob)).status, 'VALID')
    assert.deepEqual((await user()).integrations.googleCalendar.allCredentials.map(c => c.id), [bob])
    assert.equal(ok(await sdk('request', 'googleCalendar', '/events', {method: 'GET'})).account, 'bob@example.com')
    assert.ok((await d.heard()).some(([event]) => event === 'onIntegrationUninstall'))
  })

  await step('completeInstall: where the provider begins, and where it must not', async () => {
    ok(await sdk('completeInstall', 'slack', {authorizationCode: await d.code('cyd', env.redirect), redirectUrl: env.redirect, showPortalAfterInstall: false}))
    const [account] = (await user()).integrations.slack.allCredentials
    assert.equal((await stored(account.id)).providerId, 'cyd')
    assert.equal(ok(await sdk('request', 'slack', '/me', {method: 'GET'})).account, 'cyd@example.com')
    const before = (await rest('GET', '/credentials')).body.length
    refused(await sdk('completeInstall', 'googleCalendar', {
      authorizationCode: await d.code('cyd', env.redirect), redirectUrl: env.redirect, showPortalAfterInstall: false,
      integrationOptions: {installOptions: {allowMultipleCredentials: true}},
    }), /./)
    assert.equal((await rest('GET', '/credentials')).body.length, before)
    assert.equal((await user()).authenticated, true)
  })

  await step('overrideRedirectUrl, and completeInstall behind it', async () => {
    const code = await d.redirected('slack', {allowMultipleCredentials: true, externalId: 'own', overrideRedirectUrl: env.redirect}, 'bob')
    ok(await sdk('completeInstall', 'slack', {authorizationCode: code, redirectUrl: env.redirect, showPortalAfterInstall: false}))
    const account = (await user()).integrations.slack.allCredentials.find(c => c.externalId === 'own')
    assert.equal((await stored(account.id)).providerId, 'bob')
    const before = (await rest('GET', '/credentials')).body.length
    await sdk('completeInstall', 'slack', {authorizationCode: code, redirectUrl: env.redirect, showPortalAfterInstall: false})
    assert.equal((await rest('GET', '/credentials')).body.length, before) // a code that comes twice makes one account
  })

  await step('a page that is loaded again knows its user', async () => {
    await d.reload()
    const me = await d.until(async () => {
      const me = await user()
      return me.authenticated && me.integrations.googleCalendar?.allCredentials.length === 1 ? me : undefined
    })
    assert.equal(me.userId, 'user-1')
    assert.equal(ok(await sdk('request', 'googleCalendar', '/events', {method: 'GET'})).account, 'bob@example.com')
  })

  await step('a token that may only read: refused with 7210, and nobody is logged out', async () => {
    ok(await d.authenticate(env.project, env.tokens.reader))
    refused(await sdk('updateIntegrationUserSettings', 'googleCalendar', {notify: true}, {selectedCredentialId: bob}), /./)
    refused(await sdk('request', 'googleCalendar', '/events', {method: 'GET'}), /./)
    assert.equal((await user()).authenticated, true)
    assert.equal((await rest('GET', '/me', {token: env.tokens.reader})).status, 200)
    const denied = await rest('DELETE', `/integrations/${calendar}`, {token: env.tokens.reader, headers: {'X-Paragon-Credential': bob}})
    assert.deepEqual([denied.status, denied.body.code], [403, '7210'])
  })

  await step('another user sees nothing of the first', async () => {
    ok(await d.authenticate(env.project, env.tokens.stranger))
    assert.equal((await user()).integrations.googleCalendar.enabled, false)
    for (const name of [bob, 'work', 'ext:work']) {
      const answer = await sdk('request', 'googleCalendar', '/events', {method: 'GET', selectedCredentialId: name})
      assert.ok(answer.error, `${name} as another user: ${JSON.stringify(answer.ok)}`)
    }
    assert.equal((await rest('GET', `/credentials/${bob}`, {token: env.tokens.stranger})).status, 404)
  })

  await step('tokens that are no good', async () => {
    refused(await d.authenticate(env.project, env.tokens.expired), /./)
    refused(await d.authenticate(env.project, env.tokens.foreign), /./)
    refused(await d.authenticate(env.project, env.tokens.project), /./)
    refused(await d.authenticate('01930000-0000-7000-8000-000000000000', env.tokens.user), /./)
    assert.equal((await user()).authenticated, false)
    // The SDK asks twice at once. The second answer to a bad token may come when a good one is there already, and ends that too.
    await d.until(async () => {
      ok(await d.authenticate(env.project, env.tokens.user))
      return (await user()).authenticated
    })
  })

  return {bob}
}
