//! Objects: blessed scalars with an integer slot, and what Rust hangs on them.

use crate::barrier::caught;
use crate::{Ahead, Arg, Error, Perl, Sv};
use perl_sys as sys;
use std::any::TypeId;
use std::ffi::CStr;
use std::os::raw::c_longlong;
use std::ptr;
use std::rc::Rc;

/// What hangs on a scalar: C sees the head only, and calls `drop`.
#[repr(C)]
struct Holder<T> {
    head: sys::Attached,
    type_id: TypeId,
    value: Rc<T>,
}

unsafe extern "C" fn drop_holder<T>(head: *mut sys::Attached) {
    // SAFETY: `head` begins a Holder<T> that `hold` leaked; C gives it up once.
    let holder = unsafe { Box::from_raw(head as *mut Holder<T>) };
    // A panic here is ignored: no method could report it.
    let _ = caught(|| {
        drop(holder);
        Ok(())
    });
}

/// What can hang on an object. The object owns a count of it: its Drop is the destructor. A new
/// thread's copy of the object has none.
pub trait Attach: 'static {
    /// Where it keeps what plain calls take by themselves.
    fn ahead(&self) -> Option<&Ahead> {
        None
    }
}

fn hold<T: Attach>(value: Rc<T>, slot: c_longlong) -> *mut sys::Attached {
    let head = sys::Attached {
        drop: drop_holder::<T>,
        // Lives as long as the holder's count of `value`.
        ready: value.ahead().map_or(ptr::null_mut(), Ahead::ready),
        slot,
    };
    let holder = Holder {
        head,
        type_id: TypeId::of::<T>(),
        value,
    };
    Box::into_raw(Box::new(holder)) as *mut sys::Attached
}

/// The scalar behind a reference to a blessed scalar: a count of it, so that it stays
/// whatever Perl code does with the reference.
pub struct Object(Sv);

impl Object {
    /// # Safety
    /// `raw` is a live blessed scalar of the running interpreter.
    pub(crate) unsafe fn from_raw(perl: &Perl, raw: *mut sys::Sv) -> Object {
        // SAFETY: as the caller promises.
        Object(unsafe { Sv::owned(perl, sys::plx_inc(raw)) })
    }

    /// None where `arg` is no reference to a blessed scalar.
    pub fn of(perl: &mut Perl, arg: Arg<'_>) -> Result<Option<Object>, Error> {
        arg.get_magic(perl)?;
        // SAFETY: the scalar is alive while `arg` is.
        let raw = unsafe { sys::plx_object(arg.raw()) };
        if raw.is_null() {
            return Ok(None);
        }
        // SAFETY: what C has found is such a scalar.
        let object = unsafe { Object::from_raw(perl, raw) };
        // SAFETY: `object` holds a count.
        if unsafe { sys::plx_holds_text(raw) } != 0 {
            // Perl makes a number of it, and warns where it is none.
            object.0.as_arg().int(perl)?;
        }
        Ok(Some(object))
    }

    /// The integer that it holds, whatever that may be; 0 where it holds none.
    pub fn slot(&self) -> isize {
        // SAFETY: we hold a count of the scalar.
        unsafe { sys::plx_slot(self.0.raw()) as isize }
    }

    /// Makes the slot 0: the object is spent.
    pub fn clear_slot(&self) {
        // SAFETY: as in `slot`.
        unsafe { sys::plx_clear_slot(self.0.raw()) }
    }

    /// What `attach` hung on it, if that was a `T`.
    pub fn attached<T: 'static>(&self) -> Option<Rc<T>> {
        // SAFETY: as in `slot`; what hangs on it stays there until the reference has gone.
        unsafe { attached_as(sys::plx_get_attached(self.0.raw())).map(Rc::clone) }
    }

    /// Hangs `value` on the object, in place of what hangs there.
    pub fn attach<T: Attach>(&self, perl: &Perl, value: Rc<T>) {
        drop(self.detach::<T>());
        let raw = self.0.raw();
        // SAFETY: as in `slot`; C takes the holder over.
        unsafe { sys::plx_attach(perl.raw(), raw, hold(value, sys::plx_slot(raw))) }
    }

    /// Takes the attached value off.
    pub fn detach<T: 'static>(&self) -> Option<Rc<T>> {
        let value = self.attached::<T>()?;
        // SAFETY: as in `attached`, which says that it is a Holder<T>; C gives it up.
        unsafe { drop_holder::<T>(sys::plx_detach(self.0.raw())) };
        Some(value)
    }
}

/// What `hold` made, if it holds a `T`.
///
/// # Safety
/// `head` is null, or attached to an object that stays as it is for `'a`.
pub(crate) unsafe fn attached_as<'a, T: 'static>(head: *mut sys::Attached) -> Option<&'a Rc<T>> {
    // SAFETY: all that is attached is a Holder (hold), and the type says of what.
    unsafe {
        if head.is_null() || (*(head as *const Holder<()>)).type_id != TypeId::of::<T>() {
            return None;
        }
        Some(&(*(head as *const Holder<T>)).value)
    }
}

impl Sv {
    /// A reference to a new object of `class`, with `slot` in it.
    pub fn object(perl: &Perl, class: &CStr, slot: isize) -> Sv {
        // SAFETY: the running interpreter; the new reference's count becomes ours.
        unsafe {
            Sv::owned(
                perl,
                sys::plx_new_object(perl.raw(), class.as_ptr(), slot as c_longlong),
            )
        }
    }

    /// A reference of its own to `object`.
    pub fn reference(perl: &Perl, object: &Object) -> Sv {
        // SAFETY: as in `object`; whoever holds the Object keeps it alive.
        unsafe { Sv::owned(perl, sys::plx_new_ref(perl.raw(), object.0.raw())) }
    }
}
