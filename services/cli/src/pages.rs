//! Reads lists page by page, and no further than asked. A server whose pages never end is found out.

use std::future::Future;

use crate::error::Error;

// The largest page that the contract allows.
const PAGE: usize = 1000;

/// One page.
pub struct Page<T> {
    /// Items.
    pub items: Vec<T>,
    /// Token of the next page; empty: this was the last.
    pub next: String,
}

/// Reads pages until `limit` items are there or the list ends; `each` takes them as they come.
/// Returns whether there would be more.
pub async fn read<T, F>(
    limit: usize,
    mut page: impl FnMut(i32, String) -> F,
    mut each: impl FnMut(T) -> Result<(), Error>,
) -> Result<bool, Error>
where
    F: Future<Output = Result<Page<T>, Error>>,
{
    let mut token = String::new();
    let mut left = limit;
    while left > 0 {
        let size = i32::try_from(left.min(PAGE)).unwrap_or(i32::MAX);
        let Page { items, next } = page(size, token.clone()).await?;
        let count = items.len();
        for item in items.into_iter().take(left) {
            each(item)?;
        }
        if count > left {
            return Ok(true);
        }
        left -= count;
        if next.is_empty() {
            return Ok(false);
        }
        if count == 0 || next == token {
            return Err(Error::Answer("its pages do not end".to_owned()));
        }
        token = next;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    async fn collect(limit: usize, pages: Vec<(usize, &str)>) -> Result<(usize, bool), Error> {
        let pages = RefCell::new(pages.into_iter());
        let mut seen = 0;
        let more = read(
            limit,
            |_, _| {
                let page = pages.borrow_mut().next();
                async move {
                    let (count, next) = page.ok_or_else(|| Error::Failed("too far".into()))?;
                    Ok(Page {
                        items: vec![(); count],
                        next: next.to_owned(),
                    })
                }
            },
            |()| {
                seen += 1;
                Ok(())
            },
        )
        .await?;
        Ok((seen, more))
    }

    #[tokio::test]
    async fn lists_are_read_to_their_end_or_to_the_limit() {
        assert_eq!(
            collect(100, vec![(50, "a"), (20, "")]).await.unwrap(),
            (70, false)
        );
        assert_eq!(collect(50, vec![(50, "a")]).await.unwrap(), (50, true));
        assert_eq!(collect(10, vec![(50, "a")]).await.unwrap(), (10, true));
        assert_eq!(collect(0, vec![]).await.unwrap(), (0, true));
    }

    #[tokio::test]
    async fn endless_pages_are_found_out() {
        assert!(
            collect(100, vec![(1, "a"), (1, "a"), (1, "a")])
                .await
                .is_err()
        );
        assert!(collect(100, vec![(0, "a")]).await.is_err());
    }
}
