// What the walk needs inside the page: the SDK is called there, and only JSON comes out.
window.call = async (method, args) => {
  try {
    const ok = await window.paragon[method](...args)
    return {ok: ok === undefined ? null : JSON.parse(JSON.stringify(ok))}
  } catch (error) {
    return {error: {name: error.name, message: error.message, response: error.response}}
  }
}

window.flow = (name, options, pre, post) => new Promise(resolve => {
  const stages = []
  const flow = window.paragon.installFlow
  flow.start(name, {
    ...options,
    onNext: ({stage}) => {
      stages.push(stage)
      if (stage === 'preOptions') flow.setPreOptions(pre)
      if (stage === 'postOptions' && post) flow.setPostOptions(post)
      if (stage === 'postOptions' && !post) resolve({stages})
    },
    onComplete: result => resolve({stages, result: JSON.parse(JSON.stringify(result ?? null))}),
    onError: (error, at) => resolve({stages, error: {name: error.name, message: error.message, stage: at?.stage}}),
  })
})

window.heard = []
for (const event of ['onIntegrationInstall', 'onIntegrationUninstall', 'onWorkflowChange']) {
  window.paragon.subscribe(event, what => window.heard.push([event, what.integrationType]))
}

window.authenticate = async (project, token, options) => {
  try {
    await window.paragon.authenticate(project, token, options)
    return {ok: null}
  } catch (error) {
    return {error: {name: error.name, message: error.message}}
  }
}
