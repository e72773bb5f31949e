// PyTorch without CUDA has no device guard for it, and even x[0] of a fake tensor asks for one. This one does nothing.
#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace {
using Guard = c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>;
}
namespace c10::impl {
C10_REGISTER_GUARD_IMPL(CUDA, Guard)
}
