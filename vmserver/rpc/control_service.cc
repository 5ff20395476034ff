#include "vmserver/rpc/control_service.h"

#include <kj/debug.h>

#include <string>
#include <vector>

#include "vmserver/rpc/exec_listener.h"

namespace server {
namespace {

kj::StringPtr text(const std::string& value) { return kj::StringPtr(value.c_str(), value.size()); }

}  // namespace

kj::Promise<void> ControlService::spaces(SpacesContext context) {
  const std::vector<vm::SpaceReport> reports = inspector_.spaces();
  auto list = context.getResults().initSpaces(static_cast<unsigned>(reports.size()));
  for (unsigned i = 0; i < list.size(); ++i) {
    const vm::SpaceReport& report = reports[i];
    auto space = list[i];
    space.setPid(report.pid);
    space.setParent(report.parent);
    space.setUserId(report.user_id);
    space.setCommand(text(report.command));
    space.setEntries(report.entries);
    space.setBytes(report.bytes);
    space.setResidentPages(report.resident_pages);
    space.setFaults(report.faults);
    space.setPersonality(text(report.personality));
    space.setMemoryPages(report.memory_pages);
    space.setSwappedPages(report.swapped_pages);
    space.setLimitPages(report.limit_pages);
  }
  return kj::READY_NOW;
}

kj::Promise<void> ControlService::map(MapContext context) {
  std::vector<vm::EntryReport> reports;
  const bool found = inspector_.map(context.getParams().getPid(), reports);
  auto results = context.getResults();
  results.setFound(found);
  if (!found) return kj::READY_NOW;
  auto list = results.initEntries(static_cast<unsigned>(reports.size()));
  for (unsigned i = 0; i < list.size(); ++i) {
    const vm::EntryReport& report = reports[i];
    auto entry = list[i];
    entry.setStart(report.range.start().value());
    entry.setEnd(report.range.end().value());
    entry.setResidentPages(report.resident_pages);
    entry.setProtection(report.protection.bits());
    entry.setMaximum(report.maximum.bits());
    auto flags = entry.initFlags(static_cast<unsigned>(report.flags.size()));
    for (unsigned flag = 0; flag < flags.size(); ++flag) flags.set(flag, text(report.flags[flag]));
    entry.setType(text(report.type));
    entry.setPath(text(report.path));
    entry.setOffset(report.offset);
  }
  return kj::READY_NOW;
}

kj::Promise<void> ControlService::statistics(StatisticsContext context) {
  const vm::Statistics counts = inspector_.statistics();
  auto out = context.getResults().initStatistics();
  out.setFaults(counts.faults);
  out.setZeroFills(counts.zero_fills);
  out.setPageins(counts.pageins);
  out.setPageouts(counts.pageouts);
  auto calls = out.initCalls(static_cast<unsigned>(counts.calls.size()));
  for (unsigned i = 0; i < calls.size(); ++i) {
    calls[i].setName(text(counts.calls[i].first));
    calls[i].setCount(counts.calls[i].second);
  }
  out.setSpaces(counts.spaces);
  out.setResidentPages(counts.resident_pages);
  auto paging = out.initPaging();
  paging.setFreePages(counts.paging.free_pages);
  paging.setPrivatePages(counts.paging.private_pages);
  paging.setObjectPages(counts.paging.object_pages);
  paging.setInactivePages(counts.paging.inactive_pages);
  paging.setLaundryPages(counts.paging.laundry_pages);
  paging.setCleanPages(counts.paging.clean_pages);
  paging.setSwappedPages(counts.paging.swapped_pages);
  paging.setLostPages(counts.paging.lost_pages);
  paging.setWiredPages(counts.paging.wired_pages);
  paging.setDeactivations(counts.paging.deactivations);
  paging.setReactivations(counts.paging.reactivations);
  paging.setCopies(counts.paging.copies);
  out.setMemoryLimitPages(counts.memory_limit_pages);
  out.setObjects(counts.objects);
  out.setForks(counts.forks);
  out.setFailedFaults(counts.failed_faults);
  out.setPagers(hub_.registered());
  out.setSessionsRejected(counts.sessions_rejected);
  return kj::READY_NOW;
}

kj::Promise<void> ControlService::framebuffer(FramebufferContext context) {
  const kj::String name = kj::heapString(context.getParams().getName());
  return hub_.framebuffer(name, context.getResults());
}

kj::Promise<void> ControlService::limit(LimitContext context) {
  const auto params = context.getParams();
  const auto told = [](vm::LimitSet result) {
    switch (result) {
      case vm::LimitSet::done:
        return protocol::LimitOutcome::DONE;
      case vm::LimitSet::not_served:
        return protocol::LimitOutcome::NOT_SERVED;
      case vm::LimitSet::unlimited_server:
        break;
    }
    return protocol::LimitOutcome::UNLIMITED_SERVER;
  };
  context.getResults().setOutcome(told(inspector_.set_limit(params.getPid(), params.getPages())));
  return kj::READY_NOW;
}

kj::Promise<void> ControlService::drain(DrainContext context) {
  context.getResults().setSpaces(inspector_.drain());
  return kj::READY_NOW;
}

kj::Promise<void> ControlService::traceExec(TraceExecContext context) {
  const auto params = context.getParams();
  KJ_REQUIRE(params.hasSink(), "traceExec: without a sink");
  context.getResults().setTrace(
      kj::heap<ExecListener>(inspector_.exec_trace(), params.getSink()));
  return kj::READY_NOW;
}

}  // namespace server
